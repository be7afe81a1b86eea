-- Everything about the site that is not a key's. ARGV: epoch. Returns run-state and site as pairs, the feeder, the proxies' heartbeats, the last
-- verify's report, the migrators' heartbeats, what members() says, the time, and until when no lease is given because of a new epoch.
-- keys: EPOCH RUNSTATE SITE FEEDER MEMBERS VERIFY WORKERS BEATS QUARANTINE
local other = other_epoch()
if other then
	return other
end
return {redis.call('HGETALL', RUNSTATE), redis.call('HGETALL', SITE), redis.call('GET', FEEDER) or '', redis.call('HVALS', MEMBERS),
	redis.call('GET', VERIFY) or '', redis.call('HVALS', WORKERS), members(), now_ms, tonumber(redis.call('GET', QUARANTINE) or '0')}
