-- ARGV: epoch. Returns the number of marks, the oldest one's age in ms, and how many the disk is owed (side r).
-- keys: EPOCH MARKS SINCE DEBT
local other = other_epoch()
if other then
	return other
end
local n = redis.call('HLEN', MARKS)
local oldest = redis.call('ZRANGE', SINCE, 0, 0, 'WITHSCORES')
local age = 0
if oldest[2] and now_ms > tonumber(oldest[2]) then
	age = now_ms - oldest[2]
end
return {n, age, redis.call('ZCARD', DEBT)}
