-- Moves keys that are due into live. ARGV: epoch, how many entries live may hold, after how many ms a key that is still dirty
-- is moved again (its entry may be lost). Returns how many were moved.
-- keys: EPOCH MARKS DUE LIVE
local other = other_epoch()
if other then
	return other
end
local room = math.min(tonumber(ARGV[2]) - redis.call('XLEN', LIVE), 100)
if room <= 0 then
	return 0
end
local keys = redis.call('ZRANGEBYSCORE', DUE, '-inf', int(now_ms), 'LIMIT', 0, room)
for _, key in ipairs(keys) do
	redis.call('XADD', LIVE, '*', 'k', key)
	if redis.call('HEXISTS', MARKS, key) == 1 then
		redis.call('ZADD', DUE, int(now_ms + tonumber(ARGV[3])), key)
	else
		redis.call('ZREM', DUE, key)
	end
end
return #keys
