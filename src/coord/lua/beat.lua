-- A process is alive. ARGV: epoch, its id, its JSON ('' for none), p(roxy) or w(orker), for a proxy 1 if it has announced all
-- that it knows, how long (ms) its word is waited for after its last sign. Lets intents of the dead run out, too. Returns what armed()
-- says, when all were in r2-only (0: not yet), and to a proxy what members() says.
-- keys: EPOCH QUARANTINE GEN MARKS SINCE DEBT OPEN OPENUNTIL OPENKEYS DUE CHANGES CHANGESEQ DEAD ATTEMPTS MEMBERS WORKERS BEATS LEASES SITE
local other = other_epoch()
if other then
	return other
end
if ARGV[3] ~= '' then
	local head = '{"time":' .. int(now_ms) .. ',"epoch":' .. ARGV[1]
	local body = string.match(ARGV[3], '^%s*{%s*(.*)$')
	if string.sub(body, 1, 1) ~= '}' then
		head = head .. ','
	end
	redis.call('HSET', ARGV[4] == 'p' and MEMBERS or WORKERS, ARGV[2], head .. body)
end
if ARGV[4] == 'p' then
	redis.call('HSET', BEATS, ARGV[2], (ARGV[5] == '1' and ARGV[1] or '0') .. ' ' .. int(now_ms + tonumber(ARGV[6])))
end
-- An intent that ran out: its write may have happened, or may not. The key is looked at.
if not quarantined() then
	for _, id in ipairs(redis.call('ZRANGEBYSCORE', OPENUNTIL, '-inf', int(now_ms), 'LIMIT', 0, 100)) do
		local v = redis.call('HGET', OPEN, id)
		local _, _, free = holder(v and string.match(v, '^%a%a%S* (.*)$') or '')
		if not v then
			redis.call('ZREM', OPENUNTIL, id)
		elseif not free or now_ms >= free then	-- else its writer's last request may still be on the wire
			local op, side, base, key = close_intent(id)
			set_mark(key, string.upper(op), side, base, 0)
		end
	end
end
local committed = committed_ms()
if ARGV[4] ~= 'p' then
	return {armed(), committed, {}}
end
local list = members()
-- The last one has come to r2-only: from here on the disk is owed nothing, and there is no way back. Not at once: one that steps back by
-- what it was told before (arming.c) is heard within this time.
if committed == 0 then
	local all = true
	for i = 2, #list, 2 do
		all = all and phase_of(list[i]) == 6
	end
	if not all then
		redis.call('HDEL', SITE, 'r2-only-since')
	elseif redis.call('HSETNX', SITE, 'r2-only-since', int(now_ms)) == 0 and now_ms >= redis.call('HGET', SITE, 'r2-only-since') + 5000 then
		committed = now_ms
		redis.call('HSET', SITE, 'committed', int(now_ms))
	end
end
return {armed(), committed, list}
