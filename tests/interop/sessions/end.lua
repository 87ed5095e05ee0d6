-- KEYS: a session. Ends it. Where it got a new id a moment ago, answers the key of the new one, which is then to be ended.
if redis.call('TYPE', KEYS[1]).ok == 'string' then
  return (string.gsub(redis.call('GET', KEYS[1]), '^ended ', ''))
end
redis.call('DEL', KEYS[1])
return false
