-- keys: EPOCH RUNSTATE BACKFILL
-- Moves the backfill run from one state to the next. KEYS: epoch, run-state, backfill. ARGV: epoch, verb, run id (start: 1 to look at all files' headers).
-- Returns 1, or 0 where the state does not allow it.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return redis.error_reply('EPOCH differs') end
local state = redis.call('HGET', KEYS[2], 'state') or 'idle'
local t = redis.call('TIME')
local now = string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000))
local verb = ARGV[2]
if verb == 'start' then
	if state == 'feeding' or state == 'fed' then return 0 end
	if state == 'stopped' then
		redis.call('HSET', KEYS[2], 'state', 'feeding')
	else
		redis.call('DEL', KEYS[2])
		redis.call('HSET', KEYS[2], 'state', 'feeding', 'id', now, 'started', now)
	end
	if ARGV[3] == '1' then redis.call('HSET', KEYS[2], 'all', 1) end
	return 1
elseif verb == 'stop' then
	if state ~= 'feeding' then return 0 end
	redis.call('HSET', KEYS[2], 'state', 'stopped')
	return 1
end
if redis.call('HGET', KEYS[2], 'id') ~= ARGV[3] then return 0 end
if verb == 'fed' then
	if state ~= 'feeding' then return 0 end
	redis.call('HSET', KEYS[2], 'state', 'fed')
	redis.call('HDEL', KEYS[2], 'cursor')
	return 1
elseif verb == 'complete' then
	if state ~= 'fed' or redis.call('XLEN', KEYS[3]) ~= 0 then return 0 end
	redis.call('HSET', KEYS[2], 'state', 'complete', 'finished', now)
	return 1
end
return redis.error_reply('ERR unknown verb ' .. verb)
