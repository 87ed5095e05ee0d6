-- KEYS: 1 the new key of a renewal on a cluster. Answers as `write` does.
return in_time(function()
  -- The id is of our making: what is there is what an attempt left whose answer was lost.
  redis.call('UNLINK', KEYS[1])
  return make(KEYS[1], write)
end)
