-- The first step of a renewal: marks the session as being renewed. Until the mark's deadline it is read as before, writes
-- wait, and no other renewal begins.
-- KEYS: 1 the session. A: its deadline; the new key; a number that tells this attempt from others; how long before the
-- deadline the request has loaded the session, and how long after it the mark holds, in milliseconds; the idle timeout, the
-- refresh interval and the absolute timeout (0: none) in milliseconds; the session's new own idle timeout, 0 for that of the
-- layer, or nothing. The mark is a hash of the new key, which must not be shown.
-- Answers the session's hash before this, -1 where there is no session, -4 where it is too late, -6 where another request
-- renews it, -7 where it was replaced, or the text of an error; then the time.
local key, mark = KEYS[1], redis.sha1hex(A[2])
if A[1] - now < 0 then
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
local other = redis.call('HGET', key, '@replaced')
if other and string.sub(other, 1, #mark) ~= mark then
  -- That renewal's client may have the new id, unless the mark was over when this request's client still sent the old one.
  local over = tonumber(string.match(other, '%d+$')) or 0
  if over >= A[1] - A[4] then
    return { -6, now }
  end
end
-- `@idle` is what writes look at first. Of a session without an idle timeout of its own it says nothing.
local idle = redis.call('HGET', key, '@idle') or 0
mark = string.format('%s %s %.0f', mark, A[3], A[1] + A[5])
local marked = redis.pcall('HSET', key, '@replaced', mark, '@idle', idle)
if type(marked) == 'table' then
  return { marked.err, now }
end
-- Until the last step, it is this hash that says whether the renewal has happened. So it must not end before the new one.
local own = tonumber(A[9] ~= '' and A[9] or idle) or 0
local full = A[6] + A[7]
if own >= 1 and own <= 3153600000000 then -- 100 years, as in expiry.rs
  full = own + A[7]
end
if A[8] ~= '0' then
  local created = tonumber(redis.call('HGET', key, '@created')) or now
  full = math.min(full, created + A[8] - now)
end
if redis.call('PTTL', key) < full then
  local extended = redis.pcall('PEXPIRE', key, math.floor(full))
  if type(extended) == 'table' then
    redis.pcall('HDEL', key, '@replaced', idle == 0 and '@idle' or '@replaced')
    return { extended.err, now }
  end
end
return { hash, now }
