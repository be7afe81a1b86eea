-- A write is about to happen. ARGV: epoch, intent, key, op, side, base, ms until it runs out. Again: it lives longer.
-- keys: EPOCH OPEN OPENUNTIL OPENKEYS
local other = other_epoch()
if other then
	return other
end
if redis.call('HSETNX', OPEN, ARGV[2], ARGV[4] .. ARGV[5] .. ARGV[6] .. ' ' .. ARGV[3]) == 1 then
	redis.call('HINCRBY', OPENKEYS, ARGV[3], 1)
end
redis.call('ZADD', OPENUNTIL, int(now_ms + tonumber(ARGV[7])), ARGV[2])
return redis.status_reply('OK')
