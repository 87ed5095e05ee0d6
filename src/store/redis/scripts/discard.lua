-- KEYS: 1 the new key of a renewal that did not happen. Deletes the session, unless the renewal is done.
if redis.call('HEXISTS', KEYS[1], '@replaces') == 1 then
  redis.call('UNLINK', KEYS[1])
end
return { 1 }
