-- A process is alive. ARGV: epoch, its id, its JSON ('' for none), p(roxy) or w(orker), for a proxy 1 if it has announced all
-- that it knows, how long (ms) its word is waited for after its last sign. Lets intents of the dead run out, too. Returns when the
-- site was armed (ms; 0: it is not).
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
return tonumber(redis.call('HGET', SITE, 'armed') or '0')
