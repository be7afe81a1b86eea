-- The disk's file is the one that the lease's holder put there: the mark's base moves, its gen stays. ARGV: epoch, key, token, the gen
-- seen, base. Returns 1; 0 if the lease is not the caller's any more or another mark stands.
-- keys: EPOCH MARKS SINCE DEBT CHANGES CHANGESEQ LEASES
local other = other_epoch()
if other then
	return other
end
local key = ARGV[2]
local mark = redis.call('HGET', MARKS, key)
if not mark or not holds(key, ARGV[3]) then
	return 0
end
local gen, side, op, since = parse_mark(mark)
if gen ~= ARGV[4] or side ~= 'r' then
	return 0
end
write_mark(key, tonumber(gen), side, op, since, ARGV[5])
return 1
