-- The last step of a renewal, which any request with the new id may do: the old session becomes the replacement record.
-- KEYS: 1 the old key. A: a deadline; the new key; for how long the record stays, in milliseconds.
-- Answers 1 where the record is there, 0 where the renewal did not happen or the session was ended under its old id, -4
-- where it is too late, or the text of an error; then the time.
local key, new = KEYS[1], A[2]
if A[1] - now <= 0 then
  return { -4, now }
end
local mark = redis.pcall('HGET', key, '@replaced')
if type(mark) == 'table' then
  if string.find(mark.err, '^WRONGTYPE') then
    local is_record = redis.call('TYPE', key).ok == 'string' and redis.call('GET', key) == new
    return { is_record and 1 or 0, now }
  end
  return { mark.err, now }
end
if mark and string.sub(mark, 1, 40) == redis.sha1hex(new) then
  -- It must not delete the key: while a slot moves, a script may not write one that is not there.
  if redis.pcall('SET', key, new, 'PX', A[3]).err then
    -- A server whose memory is full refuses what comes first, but not what comes behind this.
    redis.call('PEXPIRE', key, A[3])
    redis.call('SET', key, new, 'PX', A[3])
  end
  return { 1, now }
end
-- A replica may not have heard of it yet. It refuses this, which changes nothing.
local refused = redis.pcall('HDEL', key, '@')
return { type(refused) == 'table' and refused.err or 0, now }
