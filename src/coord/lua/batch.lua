-- The feeder adds a batch. ARGV: epoch, JSON.
-- keys: EPOCH BACKFILL
local other = other_epoch()
if other then
	return other
end
redis.call('XADD', BACKFILL, '*', 'b', ARGV[2])
return redis.status_reply('OK')
