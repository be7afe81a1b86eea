-- Dead letters get another chance. ARGV: epoch, then the keys. Returns how many there were.
-- keys: EPOCH DUE ATTEMPTS DEAD
local other = other_epoch()
if other then
	return other
end
local n = 0
for i = 2, #ARGV do
	if redis.call('HDEL', DEAD, ARGV[i]) == 1 then
		redis.call('HDEL', ATTEMPTS, ARGV[i])
		redis.call('ZADD', DUE, int(now_ms), ARGV[i])
		n = n + 1
	end
end
return n
