-- Nobody can write to R2 first any more: every proxy is heard below validate, has announced what it knows, and the disk is owed nothing.
-- ARGV: epoch. Returns 1 if the site is not armed now.
-- keys: EPOCH MEMBERS BEATS DEBT OPEN SITE
local other = other_epoch()
if other then
	return other
end
if armed() <= 0 then
	return 1
end
if redis.call('ZCARD', DEBT) > 0 then
	return 0
end
local list = members()
for i = 2, #list, 2 do
	local phase, announced = string.match(list[i], '^(%-?%d+) %d+ %d+ (%d)')
	if tonumber(phase) < 0 or tonumber(phase) >= 4 or announced == '0' then
		return 0
	end
end
-- A write that began in r2-primary may still run, or run out.
for _, v in ipairs(redis.call('HVALS', OPEN)) do
	if string.sub(v, 2, 2) == 'r' then
		return 0
	end
end
redis.call('HSET', SITE, 'armed', '0')
return 1
