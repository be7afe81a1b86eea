-- A process has ended cleanly. ARGV: epoch, its id.
-- keys: EPOCH MEMBERS WORKERS BEATS
local other = other_epoch()
if other then
	return other
end
redis.call('HDEL', MEMBERS, ARGV[2])
redis.call('HDEL', WORKERS, ARGV[2])
redis.call('HDEL', BEATS, ARGV[2])
return redis.status_reply('OK')
