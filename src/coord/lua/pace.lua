-- R2 takes one write a second of a key, whoever sends it. ARGV: epoch, key, interval in ms. Returns 0: write now, and nobody else does
-- within the interval; or how many ms to wait. What is over is swept: the set holds the writes of one interval, no more.
-- keys: EPOCH PACED
local other = other_epoch()
if other then
	return other
end
redis.call('ZREMRANGEBYSCORE', PACED, '-inf', int(now_ms))
local til = redis.call('ZSCORE', PACED, ARGV[2])
if til then
	return tonumber(til) - now_ms
end
redis.call('ZADD', PACED, int(now_ms + tonumber(ARGV[3])), ARGV[2])
return 0
