-- ARGV: epoch, key. Returns the mark's text, or ''.
-- keys: EPOCH MARKS
local other = other_epoch()
if other then
	return other
end
return redis.call('HGET', MARKS, ARGV[2]) or ''
