-- The write certainly did not happen. ARGV: epoch, intent.
-- keys: EPOCH OPEN OPENUNTIL OPENKEYS
local other = other_epoch()
if other then
	return other
end
close_intent(ARGV[2])
return redis.status_reply('OK')
