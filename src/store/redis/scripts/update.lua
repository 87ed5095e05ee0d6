-- What `set.lua` and `add.lua` do, and all that is rarer.
-- KEYS: 1 a session. A: its deadline; the idle timeout, the refresh interval and the absolute timeout
-- (0: none) in milliseconds; the session's new own idle timeout, 0 for that of the layer, or nothing; what it says of its
-- cookie then; how many arguments are names and texts to set, names to remove, names and numbers to add; these.
-- Answers the time to live in milliseconds, or for a session with an idle timeout of its own a list of its time to live,
-- this timeout, and what it says of its cookie; -1 where there is no session, -2 where no field was left and the session
-- is deleted, -4 where it is too late, -5 where the absolute end has come, -6 where the session is being renewed, -7 where
-- it was replaced, or the text of an error; then the time.
local key, own = KEYS[1], A[5]
local first_set = 10
local first_removed = first_set + A[7]
local first_added = first_removed + A[8]
local last = first_added + A[9] - 1

if A[1] - now <= 0 then
  return { -4, now }
end
local stored = redis.pcall('HMGET', key, '@idle', '@created', '@replaced', '@cookie')
if stored.err then
  if string.find(stored.err, '^WRONGTYPE') then
    return { redis.call('TYPE', key).ok == 'string' and -7 or -1, now }
  end
  return { stored.err, now }
end
-- Whether the session is there, and whether it keeps a field. Where none is removed, it does.
local is_there, is_left = true, true
if first_added > first_removed then
  is_there, is_left = false, first_removed > first_set or last >= first_added
  local is_removed = {}
  for at = first_removed, first_added - 1 do
    is_removed[A[at]] = true
  end
  for _, name in ipairs(redis.call('HKEYS', key)) do
    is_there = true
    is_left = is_left or (string.byte(name) ~= 64 and not is_removed[name]) -- '@'
  end
elseif last >= first_set or own ~= '' or A[4] ~= '0' then
  is_there = redis.call('EXISTS', key) == 1
end -- Where nothing changes, PEXPIRE says so.
if not is_there then
  -- A replica may not have heard of the session yet. It refuses this, which changes nothing.
  local refused = redis.pcall('UNLINK', key)
  return { type(refused) == 'table' and refused.err or -1, now }
end
if stored[3] and now <= (tonumber(string.match(stored[3], '%d+$')) or 0) then
  return { -6, now }
end

-- The full time to live.
local idle = own ~= '' and own or stored[1]
local full, has_own = A[2] + A[3], false
if idle and string.find(idle, '^%d+$') then
  local number = tonumber(idle)
  if number >= 1 and number <= 3153600000000 then -- 100 years, as in expiry.rs
    full, has_own = number + A[3], true
  end
end
local created
if A[4] ~= '0' then
  local since = tonumber(stored[2])
  if not (since and since >= 0 and since <= now) then
    -- Another program made it: counted from now.
    since, created = now, now
  end
  full = math.floor(math.min(full, since + A[4] - now))
  if full < 1 then
    redis.call('UNLINK', key)
    return { -5, now }
  end
end

-- A script is not rolled back, so what can fail comes first, and is taken back.
local before = {}
for at = first_added, last, 2 do
  local name = A[at]
  local old = redis.call('HGET', key, name)
  local sum = redis.pcall('HINCRBY', key, name, A[at + 1])
  if type(sum) == 'table' then
    for _, field in ipairs(before) do
      if field[2] then
        redis.call('HSET', key, field[1], field[2])
      else
        redis.call('HDEL', key, field[1])
      end
    end
    if string.find(sum.err, 'not an integer') or string.find(sum.err, 'overflow') then
      return { 'INCREMENT ' .. sum.err, now }
    end
    return { sum.err, now }
  end
  before[#before + 1] = { name, old }
end

-- Lua's stack bounds how many arguments one call takes.
local function in_parts(command, first, past)
  for from = first, past - 1, 1000 do
    local refused = redis.pcall(command, key, (table.unpack or unpack)(A, from, math.min(from + 999, past - 1)))
    if type(refused) == 'table' then
      return refused.err
    end
  end
end
local refused = in_parts('HSET', first_set, first_removed)
local function set_own(name, value)
  local set = redis.pcall('HSET', key, name, value)
  return type(set) == 'table' and set.err or nil
end
if own == '0' then
  local removed = redis.pcall('HDEL', key, '@idle', '@cookie')
  refused = refused or type(removed) == 'table' and removed.err or nil
elseif own ~= '' then
  refused = refused or set_own('@idle', own) or set_own('@cookie', A[6])
end
if created then
  refused = refused or set_own('@created', created)
end
if is_left then
  refused = refused or in_parts('HDEL', first_removed, first_added)
end
if refused then
  if created and last < first_set then
    -- Only its beginning cannot be written down: it lives on all the same.
    redis.pcall('PEXPIRE', key, full)
  end
  return { refused, now }
end
if not is_left then
  local deleted = redis.pcall('UNLINK', key)
  return { type(deleted) == 'table' and deleted.err or -2, now }
end
local extended = redis.pcall('PEXPIRE', key, full)
if type(extended) == 'table' then
  return { extended.err, now }
elseif extended == 0 then
  return { -1, now }
end
return { has_own and { full, idle, own ~= '' and A[6] or stored[4] } or full, now }
