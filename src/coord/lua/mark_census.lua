-- A census has found these without a file. While the site is armed only what the disk had first counts (what was written to R2 first may not
-- be on the disk yet), and nothing that somebody works on: a mark, an open write or a lease. ARGV: epoch, then key and side (l: the
-- object was made from a file, r: it was written to R2 first) for each. Returns how many were passed over for being worked on.
-- keys: EPOCH GEN MARKS SINCE DEBT DUE CHANGES CHANGESEQ DEAD ATTEMPTS SITE OPENKEYS LEASES
local other = other_epoch()
if other then
	return other
end
local is_armed, busy = armed() > 0, 0
for i = 2, #ARGV, 2 do
	local key = ARGV[i]
	if not is_armed then
		set_mark(key, 'd', 'l', '', 0)
	elseif ARGV[i + 1] == 'l' then
		local token, _, free = holder(key)
		if (token and now_ms < free) or redis.call('HEXISTS', MARKS, key) == 1 or redis.call('HEXISTS', OPENKEYS, key) == 1 then
			busy = busy + 1
		else
			set_mark(key, 'd', 'l', '', 0)
		end
	end
end
return busy
