-- KEYS: 1 the session. Answers as `write` does, or -3 where the key is taken.
return in_time(function()
  if redis.call('EXISTS', KEYS[1]) == 1 then
    return -3
  end
  return make(KEYS[1], write)
end)
