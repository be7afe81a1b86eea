-- Says in which epoch Redis is, and begins a new one if it is new, emptied, restarted or older than the caller remembers.
-- ARGV: the last epoch that the caller knew (0: none), Redis's run_id, the quarantine in ms, 1 if no other process of the site
-- is connected, the highest gen that the caller knows. Returns the epoch, and what armed()
-- and committed_ms() say.
-- keys: EPOCH RUN QUARANTINE GEN MARKS SINCE DEBT OPEN OPENUNTIL OPENKEYS DUE CHANGES CHANGESEQ LEASES LIVE BACKFILL ATTEMPTS DEAD MEMBERS WORKERS BEATS RUNSTATE SITE
local known, quarantine = tonumber(ARGV[1]), tonumber(ARGV[3])
local epoch = tonumber(redis.call('GET', EPOCH) or '0')

if tonumber(ARGV[5]) > tonumber(redis.call('GET', GEN) or '0') then
	redis.call('SET', GEN, ARGV[5])
end
if epoch > 0 and redis.call('GET', RUN) == ARGV[2] and epoch >= known then
	-- It was begun as the site's first, without a quarantine. Who knows an older one proves that wrong.
	if known > 0 and known < epoch and redis.call('GET', QUARANTINE) == '0' then
		redis.call('SET', QUARANTINE, int(now_ms + quarantine))
	end
	return {int(epoch), armed(), committed_ms()}
end
local first = known == 0 and epoch == 0 and ARGV[4] == '1'
-- GEN was perhaps set just now, but then the caller knows of a past.
for i = 1, #KEYS do
	first = first and redis.call('EXISTS', KEYS[i]) == 0
end
epoch = math.max(epoch + 1, known + 1, time[1] * 1000000 + time[2])
redis.call('SET', EPOCH, int(epoch))
redis.call('SET', RUN, ARGV[2])
redis.call('SET', QUARANTINE, first and '0' or int(now_ms + quarantine))
return {int(epoch), armed(), committed_ms()}
