-- The first step of a renewal: marks the session as being renewed. Until the mark's deadline it is read as before, writes
-- wait, and no other renewal begins.
-- KEYS: 1 the session. A: its deadline; the new key; a number that tells this attempt from others; how long before the
-- deadline the request has loaded the session, and how long after it the mark holds, in milliseconds; the idle timeout, the
-- refresh interval and the absolute timeout (0: none) in milliseconds; the session's new own idle timeout, 0 for that of the
-- layer, or nothing. The mark is a hash of the new key, which must not be shown.
-- Answers the session's hash before this, -1 where there is no session, -4 where it is too late, -6 where another request
-- renews it, -7 where it was replaced, or the text of an error; then the time.
local key, mark = KEYS[1], redis.sha1hex(A[2])
if A[1] - now <= 0 then
  return { -4, now }
end
local hash = redis.pcall('HGETALL', key)
if hash.err then
  if string.find(hash.err, '^WRONGTYPE') then
    return { redis.call('TYPE', key).ok == 'string' and -7 or -1, now }
  end
  return { hash.err, now }
end
if #hash == 0 then
  -- A replica may not have heard of the session yet. It refuses this, which changes nothing.
  local refused = redis.pcall('UNLINK', key)
  return { type(refused) == 'table' and refused.err or -1, now }
end
local own = {}
for at = 1, #hash, 2 do
  if string.byte(hash[at]) == 64 then -- '@'
    own[hash[at]] = hash[at + 1]
  end
end
local other = own['@replaced']
if other and string.sub(other, 1, #mark) ~= mark then
  -- That renewal's client may have the new id, unless the mark was over when this request's client still sent the old one.
  local over = tonumber(string.match(other, '%d+$')) or 0
  if over >= A[1] - A[4] then
    return { -6, now }
  end
end
-- `@idle` is what writes look at first. Of a session without an idle timeout of its own it says nothing.
local idle = own['@idle'] or 0
mark = string.format('%s %s %.0f', mark, A[3], A[1] + A[5])
local marked = redis.pcall('HSET', key, '@replaced', mark, '@idle', idle)
if type(marked) == 'table' then
  return { marked.err, now }
end
-- Until the last step, it is this hash that says whether the renewal has happened. So it must not end before the new one,
-- nor before its own time, should the renewal fail.
local function full(idle)
  local number = tonumber(idle) or 0
  if number >= 1 and number <= 3153600000000 then -- 100 years, as in expiry.rs
    return number + A[7]
  end
  return A[6] + A[7]
end
local longest = math.max(full(idle), full(A[9] ~= '' and A[9] or idle))
if A[8] ~= '0' then
  local created = tonumber(own['@created'])
  if not (created and created >= 0 and created <= now) then
    created = now
  end
  longest = math.max(math.min(longest, created + A[8] - now), 1)
end
local extended = redis.pcall('PEXPIRE', key, math.floor(longest))
if type(extended) == 'table' then
  redis.pcall('HDEL', key, '@replaced', idle == 0 and '@idle' or '@replaced')
  return { extended.err, now }
end
return { hash, now }
