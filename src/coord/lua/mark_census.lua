-- A census has found these without a file. Not while the site is armed: what was written to R2 first may not be on the disk yet. ARGV: epoch,
-- keys. Returns 1, or 0 if the site is armed.
-- keys: EPOCH GEN MARKS SINCE DEBT DUE CHANGES CHANGESEQ DEAD ATTEMPTS SITE
local other = other_epoch()
if other then
	return other
end
if armed() > 0 then
	return 0
end
for i = 2, #ARGV do
	set_mark(ARGV[i], 'd', 'l', '', 0)
end
return 1
