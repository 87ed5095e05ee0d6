-- KEYS: 1 a session. Deletes it. Answers 0, or the key in a replacement record, whose session is then to be deleted.
local key = KEYS[1]
local kind = redis.call('TYPE', key).ok
if kind == 'string' then
  return { { redis.call('GET', key) } }
end
if kind == 'hash' or kind == 'none' then
  -- Also where there is nothing: a replica, which may not have heard of the session yet, refuses it.
  redis.call('UNLINK', key)
end
return { 0 }
