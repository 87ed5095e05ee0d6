-- The first step of a renewal: marks the session as being renewed. Until the mark's deadline it is read as before, writes
-- wait, and no other renewal begins.
-- KEYS: 1 the session. A: its deadline; the new key; for how long after the deadline the mark holds, in milliseconds; 1
-- where the mark of another renewal counts although it is over, else 0. The mark is a hash of the new key, which must not
-- be shown.
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
if other and string.sub(other, 1, #mark) ~= mark and (A[4] == '1' or now <= (tonumber(string.match(other, '%d+$')) or 0)) then
  return { -6, now }
end
-- `@idle` is what writes look at first. Of a session without an idle timeout of its own it says nothing.
local idle = redis.call('HGET', key, '@idle') or 0
local until_when = string.format('%.0f', A[1] + A[3])
local marked = redis.pcall('HSET', key, '@replaced', mark .. ' ' .. until_when, '@idle', idle)
return { type(marked) == 'table' and marked.err or hash, now }
