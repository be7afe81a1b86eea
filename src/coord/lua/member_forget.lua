-- A person says that a proxy will never come back. ARGV: epoch, its id, 1 to forget one that is heard, since how many ms one is silent.
-- Returns 1; 0: it is not registered; -1: it is heard.
-- keys: EPOCH MEMBERS BEATS
local other = other_epoch()
if other then
	return other
end
local json = redis.call('HGET', MEMBERS, ARGV[2])
local heard = tonumber(string.match(json or '', '^{"time":(%d+)') or '0')
if not json and redis.call('HEXISTS', BEATS, ARGV[2]) == 0 then
	return 0
end
if ARGV[3] ~= '1' and now_ms - heard < tonumber(ARGV[4]) then
	return -1
end
redis.call('HDEL', MEMBERS, ARGV[2])
redis.call('HDEL', BEATS, ARGV[2])
return 1
