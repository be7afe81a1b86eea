-- An entry's work is done. ARGV: epoch, stream (l, b), id.
-- keys: EPOCH LIVE BACKFILL
local other = other_epoch()
if other then
	return other
end
local stream = ARGV[2] == 'l' and LIVE or BACKFILL
redis.pcall('XACK', stream, 'w', ARGV[3])
redis.call('XDEL', stream, ARGV[3])
return redis.status_reply('OK')
