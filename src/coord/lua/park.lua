-- The holder stops, but its last request may still be on the wire: the lease's quarantine begins now. ARGV: epoch, key, token,
-- request limit in ms.
-- keys: EPOCH LEASES
local other = other_epoch()
if other then
	return other
end
local token = holder(ARGV[2])
if token == ARGV[3] then
	hold(ARGV[2], token, 0, tonumber(ARGV[4]))
end
return redis.status_reply('OK')
