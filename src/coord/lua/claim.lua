-- Takes over entries of one stream that nobody has kept alive, or (own) those that this consumer's last life left. ARGV: epoch,
-- consumer, stream (l, b), idle ms, how many, 1 for own, an id to begin behind ('-': the first). Returns {id, deliveries, data} for each.
-- keys: EPOCH LIVE BACKFILL
local other = other_epoch()
if other then
	return other
end
local stream = ARGV[3] == 'l' and LIVE or BACKFILL
local pending
if ARGV[6] == '1' then
	pending = redis.pcall('XPENDING', stream, 'w', 'IDLE', 0, ARGV[7], '+', ARGV[5], ARGV[2])
else
	pending = redis.pcall('XPENDING', stream, 'w', 'IDLE', ARGV[4], ARGV[7], '+', ARGV[5])
end
if pending.err then
	return {}
end
local out = {}
for _, p in ipairs(pending) do
	local entry = redis.call('XCLAIM', stream, 'w', ARGV[2], ARGV[4], p[1])[1]
	if entry and entry[2] then
		out[#out + 1] = {p[1], p[4] + 1, entry[2][2]}
	else
		-- Deleted, but not acknowledged: nothing is left to do.
		redis.call('XACK', stream, 'w', p[1])
	end
end
return out
