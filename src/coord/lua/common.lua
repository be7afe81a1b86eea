-- In front of every script. The locals EPOCH, MARKS, ... are the keys that the script's "keys:" line names (keys.h); numbers
-- beyond 2^31 are written by int(), as Lua's own form loses digits. A mark's text: "gen side op since_ms epoch", and for side r
-- " base": what R2's writer found on the disk (marks.h).
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)

local function int(n)
	return string.format('%.0f', n)
end

-- The error of a caller that lives in another epoch, or nil.
local function other_epoch()
	local epoch = redis.call('GET', EPOCH)
	if epoch ~= ARGV[1] then
		return redis.error_reply('EPOCH is ' .. (epoch or 'missing'))
	end
end

local function new_gen()
	local last = tonumber(redis.call('GET', GEN) or '0')
	local gen = time[1] * 1000000 + time[2]
	if gen <= last then
		gen = last + 1
	end
	redis.call('SET', GEN, int(gen))
	return gen
end

-- The proxies' own copies follow this stream. Its ids count without a gap, so that who reads sees if something was trimmed away.
local function publish(key, what, value)
	local seq = redis.call('INCR', CHANGESEQ)
	redis.call('XADD', CHANGES, 'MAXLEN', '~', '10000', int(seq) .. '-0', 'k', key, what, value)
end

local function parse_mark(text)
	return string.match(text, '^(%d+) (%a) (%a) (%d+) (%d+) ?(%S*)$')
end

local function due_by(key, at)
	local old = redis.call('ZSCORE', DUE, key)
	if not old or tonumber(old) > at then
		redis.call('ZADD', DUE, int(at), key)
	end
end

local function write_mark(key, gen, side, op, since, base)
	local text = int(gen) .. ' ' .. side .. ' ' .. op .. ' ' .. since .. ' ' .. ARGV[1]
	if side == 'r' then
		text = text .. ' ' .. base
		redis.call('ZADD', DEBT, since, key)
	else
		redis.call('ZREM', DEBT, key)
	end
	redis.call('HSET', MARKS, key, text)
	redis.call('ZADD', SINCE, since, key)
	publish(key, 'm', text)
	return text
end

-- A write's outcome is known (op p, d), or nobody knows whether it happened (op P, D).
local function set_mark(key, op, side, base, due_ms)
	local old = redis.call('HGET', MARKS, key)
	local known, since = op == 'p' or op == 'd', int(now_ms)
	op = string.lower(op)
	if old then
		local _, s, o, t, _, b = parse_mark(old)
		since = t
		if not known then
			-- Only a delete adds something: that absence may be carried over. What is there is put in any case.
			side, base = s, b
			op = op == 'd' and 'd' or o
		elseif side == 'l' and s == 'l' and o == 'd' then
			op = 'd'	-- a tombstone that stands is of a delete that was seen; the look at the file may be older
		end
	elseif not known and side == 'r' then
		base = '?' .. base	-- nothing was confirmed: no event on the disk is older than it
	end
	-- A new write is a new chance for a key that had been set aside.
	if redis.call('HDEL', DEAD, key) == 1 then
		redis.call('HDEL', ATTEMPTS, key)
	end
	due_by(key, now_ms + due_ms)
	return write_mark(key, new_gen(), side, op, since, base)
end

-- Closes an open intent; its op, side, base and key, or nil if it was not open.
local function close_intent(id)
	local v = redis.call('HGET', OPEN, id)
	if not v then
		return nil
	end
	local op, side, base, key = string.match(v, '^(%a)(%a)(%S*) (.*)$')
	redis.call('HDEL', OPEN, id)
	redis.call('ZREM', OPENUNTIL, id)
	if redis.call('HINCRBY', OPENKEYS, key, -1) <= 0 then
		redis.call('HDEL', OPENKEYS, key)
	end
	return op, side, base, key
end

-- May some proxy write to R2 first? When that was said, in ms; 0: it was taken back; -1: nobody has said.
local function armed()
	return tonumber(redis.call('HGET', SITE, 'armed') or '-1')
end

-- When all proxies were in r2-only, in ms; 0: not yet.
local function committed_ms()
	return tonumber(redis.call('HGET', SITE, 'committed') or '0')
end

-- Is no lease given? Within the time after a new epoch, and until each proxy has announced what it knows: one that is silent is
-- waited for as long as its word says, and without bound if the site is armed.
local function quarantined()
	if now_ms < tonumber(redis.call('GET', QUARANTINE) or '0') then
		return true
	end
	local beats = redis.call('HGETALL', BEATS)
	for i = 2, #beats, 2 do
		local epoch, til = string.match(beats[i], '^(%d+) (%d+)$')
		if epoch ~= ARGV[1] and (now_ms < tonumber(til) or armed() > 0) then
			return true
		end
	end
	return false
end

-- Every proxy that is registered: its id, and "phase armed heard announced until" (member.h).
local function members()
	local out, beats = {}, redis.call('HGETALL', BEATS)
	for i = 1, #beats, 2 do
		local json = redis.call('HGET', MEMBERS, beats[i]) or ''
		local epoch, til = string.match(beats[i + 1], '^(%d+) (%d+)$')
		out[#out + 1] = beats[i]
		out[#out + 1] = (string.match(json, '"phase_number":%s*(%d+)') or '-1') .. ' ' .. (string.match(json, '"armed_ms":%s*(%d+)') or '0') .. ' ' ..
			(string.match(json, '^{"time":(%d+)') or '0') .. ' ' .. (epoch == ARGV[1] and '1' or '0') .. ' ' .. til
	end
	return out
end

-- The phase in what members() says of a proxy.
local function phase_of(text)
	return tonumber(string.match(text, '^(%-?%d+)'))
end

-- The token of a key's lease, its end, and the time from which another may take it; or nil.
local function holder(key)
	local v = redis.call('HGET', LEASES, key)
	if v then
		local token, til, free = string.match(v, '^(%x+) (%d+) (%d+)$')
		return token, tonumber(til), tonumber(free)
	end
end

-- Does the token hold the key now?
local function holds(key, token)
	local t, til = holder(key)
	return t == token and now_ms < til
end

-- The limit is the holder's own: so long may its last request be on the wire when the lease has ended.
local function hold(key, token, lease_ms, limit_ms)
	local til = now_ms + lease_ms
	redis.call('HSET', LEASES, key, token .. ' ' .. int(til) .. ' ' .. int(til + limit_ms))
end
