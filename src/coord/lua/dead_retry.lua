-- Dead letters get another chance, some thousands at a time. ARGV: epoch. Returns how many, and how many are left.
-- keys: EPOCH DUE ATTEMPTS DEAD
local other = other_epoch()
if other then
	return other
end
local n = 0
for _, key in ipairs(redis.call('HKEYS', DEAD)) do
	if n == 2000 then
		break
	end
	redis.call('HDEL', DEAD, key)
	redis.call('HDEL', ATTEMPTS, key)
	redis.call('ZADD', DUE, int(now_ms), key)
	n = n + 1
end
return {n, redis.call('HLEN', DEAD)}
