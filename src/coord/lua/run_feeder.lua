-- keys: EPOCH FEEDER
-- One feeder a site. KEYS: epoch, feeder. ARGV: epoch, who, for how many ms (0: give it up). Returns 1 if it is ours.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return redis.error_reply('EPOCH differs') end
local holder = redis.call('GET', KEYS[2])
if holder and holder ~= ARGV[2] then return 0 end
if ARGV[3] == '0' then
	redis.call('DEL', KEYS[2])
	return 0
end
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
return 1
