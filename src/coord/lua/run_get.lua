-- keys: EPOCH RUNSTATE SITE FEEDER MEMBERS VERIFY WORKERS
-- KEYS: epoch, run-state, site, feeder, members, verify, workers. ARGV: epoch.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return redis.error_reply('EPOCH differs') end
return {redis.call('HGETALL', KEYS[2]), redis.call('HGETALL', KEYS[3]), redis.call('GET', KEYS[4]) or '', redis.call('HVALS', KEYS[5]),
	redis.call('GET', KEYS[6]) or '', redis.call('HVALS', KEYS[7])}
