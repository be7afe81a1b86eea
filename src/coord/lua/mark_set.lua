-- Sets marks. ARGV: epoch, due in ms from now, the intent to close ('': none), the token of the key's lease ('': none is needed), 1 to
-- drop that lease, then key, op, side, base for each. Returns the last one's text; 0 if the lease is not the caller's any more.
-- keys: EPOCH GEN MARKS SINCE DEBT OPEN OPENUNTIL OPENKEYS DUE CHANGES CHANGESEQ DEAD ATTEMPTS LEASES
local other = other_epoch()
if other then
	return other
end
local token, text = ARGV[4], nil
if token ~= '' then
	if not holds(ARGV[6], token) then
		return 0
	end
	if ARGV[5] == '1' then
		redis.call('HDEL', LEASES, ARGV[6])
	end
end
if ARGV[3] ~= '' then
	close_intent(ARGV[3])
end
for i = 6, #ARGV, 4 do
	text = set_mark(ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], tonumber(ARGV[2]))
end
return text
