-- The sides are equal as of the mark seen. ARGV: epoch, key, token, the gen seen (0: there was no mark). Returns -1 if the lease is
-- not the caller's any more, 1 if the key is clean now, 0 if it is still dirty.
-- keys: EPOCH LEASES MARKS SINCE DEBT OPENKEYS DUE CHANGES CHANGESEQ ATTEMPTS DEAD
local other = other_epoch()
if other then
	return other
end
local key = ARGV[2]
local token, til = holder(key)
if token ~= ARGV[3] or now_ms >= til then
	return -1
end
redis.call('HDEL', LEASES, key)
if redis.call('HEXISTS', OPENKEYS, key) == 1 then
	return 0
end
local mark = redis.call('HGET', MARKS, key)
if mark then
	local gen = parse_mark(mark)
	if gen ~= ARGV[4] then
		return 0
	end
	redis.call('HDEL', MARKS, key)
	redis.call('ZREM', SINCE, key)
	redis.call('ZREM', DEBT, key)
	publish(key, 'c', gen)
end
redis.call('ZREM', DUE, key)
redis.call('HDEL', ATTEMPTS, key)
redis.call('HDEL', DEAD, key)
return 1
