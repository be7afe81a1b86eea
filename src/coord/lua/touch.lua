-- Keeps own entries alive. ARGV: epoch, consumer, then stream (l, b), id for each. Who has lost one to another leaves it there.
-- keys: EPOCH LIVE BACKFILL
local other = other_epoch()
if other then
	return other
end
for i = 3, #ARGV, 2 do
	local stream = ARGV[i] == 'l' and LIVE or BACKFILL
	local p = redis.pcall('XPENDING', stream, 'w', ARGV[i + 1], ARGV[i + 1], 1)
	if p[1] and p[1][2] == ARGV[2] then
		redis.call('XCLAIM', stream, 'w', ARGV[2], 0, ARGV[i + 1], 'JUSTID')
	end
end
return redis.status_reply('OK')
