-- A key failed. ARGV: epoch, key, why, failures until it is set aside, first and longest pause in ms, a random number of
-- 0 to 999, 1 if it kills who works on it: then its other entries go, too. Returns 1 if it is set aside now.
-- keys: EPOCH DUE ATTEMPTS DEAD LIVE
local other = other_epoch()
if other then
	return other
end
local key = ARGV[2]
local n = redis.call('HINCRBY', ATTEMPTS, key, 1)
if n >= tonumber(ARGV[4]) then
	redis.call('HSET', DEAD, key, cjson.encode({why = ARGV[3], since = now_ms, attempts = n}))
	redis.call('ZREM', DUE, key)
	if ARGV[8] == '1' then
		for _, entry in ipairs(redis.call('XRANGE', LIVE, '-', '+')) do
			if entry[2][2] == key then
				redis.call('XDEL', LIVE, entry[1])
			end
		end
	end
	return 1
end
local first, top = tonumber(ARGV[5]), tonumber(ARGV[5]) * 2 ^ math.min(n, 40)
top = math.min(top, tonumber(ARGV[6]))
redis.call('ZADD', DUE, int(now_ms + first + math.max(top - first, 0) * tonumber(ARGV[7]) / 1000), key)
return 0
