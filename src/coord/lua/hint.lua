-- A key wants looking at, without a mark. ARGV: epoch, key.
-- keys: EPOCH LIVE
local other = other_epoch()
if other then
	return other
end
redis.call('XADD', LIVE, '*', 'k', ARGV[2])
return redis.status_reply('OK')
