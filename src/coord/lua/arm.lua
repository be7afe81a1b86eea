-- Some proxy is going to write to R2 first: says so to all. ARGV: epoch, why: "ask": for the first time; "again": the caller has been
-- armed, and Redis may have been emptied; "stay": the caller is in r2-primary or above, whatever was said. Returns since when the site is
-- armed (0: it is not), and for "ask" the proxies that are not in validate or above yet.
-- keys: EPOCH MEMBERS BEATS SITE
local other = other_epoch()
if other then
	return other
end
local since, below = armed(), {}
if since > 0 then
	return {since, below}
end
if ARGV[2] == 'ask' then
	local list = members()
	for i = 1, #list, 2 do
		if phase_of(list[i + 1]) < 4 then
			below[#below + 1] = list[i]
		end
	end
	if #below > 0 then
		return {0, below}
	end
elseif ARGV[2] == 'again' and since == 0 then
	return {0, below}
end
-- Never a time that was said before: proxies acknowledge it by its number.
since = math.max(now_ms, tonumber(redis.call('HGET', SITE, 'armed-last') or '0') + 1)
redis.call('HSET', SITE, 'armed', int(since), 'armed-last', int(since))
return {since, below}
