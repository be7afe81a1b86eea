-- Redis may have been emptied: proxies that the caller knows of are registered again, as such that have not announced what they know.
-- ARGV: epoch, how long (ms) they are waited for if the site is not armed, ids.
-- keys: EPOCH BEATS
local other = other_epoch()
if other then
	return other
end
for i = 3, #ARGV do
	redis.call('HSETNX', BEATS, ARGV[i], '0 ' .. int(now_ms + tonumber(ARGV[2])))
end
return redis.status_reply('OK')
