-- Sets marks. ARGV: epoch, due in ms from now, the intent to close ('': none), then key, op for each. Returns the last one's text.
-- keys: EPOCH GEN MARKS SINCE OPEN OPENUNTIL OPENKEYS DUE CHANGES CHANGESEQ DEAD ATTEMPTS
local other = other_epoch()
if other then
	return other
end
local text
if ARGV[3] ~= '' then
	close_intent(ARGV[3])
end
for i = 4, #ARGV, 2 do
	text = set_mark(ARGV[i], ARGV[i + 1], tonumber(ARGV[2]))
end
return text
