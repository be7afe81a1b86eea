-- ARGV: epoch, key, token, lease in ms, request limit in ms. Returns 1, or 0 if the lease is not the caller's any more.
-- keys: EPOCH LEASES
local other = other_epoch()
if other then
	return other
end
local token, til = holder(ARGV[2])
if token ~= ARGV[3] or now_ms >= til then
	return 0
end
hold(ARGV[2], token, tonumber(ARGV[4]), tonumber(ARGV[5]))
return 1
