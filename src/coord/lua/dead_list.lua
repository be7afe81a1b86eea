-- A page of the dead letters. ARGV: epoch, cursor. Returns what HSCAN does.
-- keys: EPOCH DEAD
local other = other_epoch()
if other then
	return other
end
return redis.call('HSCAN', DEAD, ARGV[2], 'COUNT', 500)
