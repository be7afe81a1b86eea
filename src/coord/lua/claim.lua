-- Takes over entries that nobody has kept alive. ARGV: epoch, consumer, idle ms, how many of live, of backfill.
-- Returns {stream (l, b), id, deliveries, data} for each.
-- keys: EPOCH LIVE BACKFILL
local other = other_epoch()
if other then
	return other
end
local out = {}
local function claim(stream, letter, n)
	if n == 0 or redis.call('EXISTS', stream) == 0 then
		return
	end
	local pending = redis.pcall('XPENDING', stream, 'w', 'IDLE', ARGV[3], '-', '+', n)
	if pending.err then
		return
	end
	for _, p in ipairs(pending) do
		local got = redis.call('XCLAIM', stream, 'w', ARGV[2], ARGV[3], p[1])
		local entry = got[1]
		if entry and entry[2] then
			out[#out + 1] = {letter, p[1], p[4] + 1, entry[2][2]}
		else
			redis.call('XACK', stream, 'w', p[1])
		end
	end
end
claim(LIVE, 'l', tonumber(ARGV[4]))
claim(BACKFILL, 'b', tonumber(ARGV[5]))
return out
