-- A key wants looking at, without a mark. ARGV: epoch, key.
-- keys: EPOCH LIVE
local other = other_epoch()
if other then
	return other
end
-- A hint may be lost, Redis's memory may not: with no migrator running, reads hint on and on.
if redis.call('XLEN', LIVE) < 100000 then
	redis.call('XADD', LIVE, '*', 'k', ARGV[2])
end
return redis.status_reply('OK')
