-- Gives a lease back. ARGV: epoch, key, token.
-- keys: EPOCH LEASES
local other = other_epoch()
if other then
	return other
end
if holder(ARGV[2]) == ARGV[3] then
	redis.call('HDEL', LEASES, ARGV[2])
end
return redis.status_reply('OK')
