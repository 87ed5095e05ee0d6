-- KEYS: 1 the new key of a renewal on a cluster. Answers as `write` does.
return steps(1, function(i, first, its_numbers)
  -- The id is of our making: what is there is what an attempt left whose answer was lost.
  redis.call('UNLINK', KEYS[i])
  return make(KEYS[i], write, first, its_numbers)
end)
