-- ARGV: epoch, key, token, lease in ms, request limit in ms. Returns "Q" (quarantine), "B" (busy), or {takeover, mark, open writes}.
-- keys: EPOCH QUARANTINE BEATS LEASES MARKS OPENKEYS SITE
local other = other_epoch()
if other then
	return other
end
if quarantined() then
	return 'Q'
end
local key = ARGV[2]
local token, _, free = holder(key)
if token and now_ms < free then
	return 'B'
end
hold(key, ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]))
return {token and 1 or 0, redis.call('HGET', MARKS, key) or '', tonumber(redis.call('HGET', OPENKEYS, key) or '0')}
