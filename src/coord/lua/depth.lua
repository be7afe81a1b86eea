-- ARGV: epoch. Returns live, live pending, backfill, backfill pending, dead, due.
-- keys: EPOCH LIVE BACKFILL DEAD DUE
local other = other_epoch()
if other then
	return other
end
local function pending(stream)
	local p = redis.pcall('XPENDING', stream, 'w')
	return p.err and 0 or p[1]
end
return {redis.call('XLEN', LIVE), pending(LIVE), redis.call('XLEN', BACKFILL), pending(BACKFILL), redis.call('HLEN', DEAD), redis.call('ZCARD', DUE)}
