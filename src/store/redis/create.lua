-- KEYS: the sessions. Answers for each as `write` does, or -3 where the key is taken.
return steps(1, function(i, first, its_numbers)
  if redis.call('EXISTS', KEYS[i]) == 1 then
    return -3
  end
  return make(KEYS[i], write, first, its_numbers, 'new')
end)
