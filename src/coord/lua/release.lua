-- Gives an entry back for others at once: as a new one. ARGV: epoch, consumer, stream (l, b), id.
-- keys: EPOCH LIVE BACKFILL
local other = other_epoch()
if other then
	return other
end
local stream = ARGV[3] == 'l' and LIVE or BACKFILL
local p = redis.pcall('XPENDING', stream, 'w', ARGV[4], ARGV[4], 1)
local entry = redis.call('XRANGE', stream, ARGV[4], ARGV[4])[1]
if entry and p[1] and p[1][2] == ARGV[2] then
	redis.call('XADD', stream, '*', unpack(entry[2]))
	redis.call('XACK', stream, 'w', ARGV[4])
	redis.call('XDEL', stream, ARGV[4])
end
return redis.status_reply('OK')
