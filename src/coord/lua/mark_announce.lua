-- A mark that Redis may have lost. ARGV: epoch, key, gen, side, op, since, base. Returns the text of the mark that stands after it.
-- keys: EPOCH GEN MARKS SINCE DEBT DUE CHANGES CHANGESEQ
local other = other_epoch()
if other then
	return other
end
local key, gen = ARGV[2], tonumber(ARGV[3])
local old = redis.call('HGET', MARKS, key)
if old and tonumber((parse_mark(old))) >= gen then
	return old
end
if gen > tonumber(redis.call('GET', GEN) or '0') then
	redis.call('SET', GEN, ARGV[3])
end
due_by(key, now_ms)
return write_mark(key, gen, ARGV[4], ARGV[5], ARGV[6], ARGV[7])
