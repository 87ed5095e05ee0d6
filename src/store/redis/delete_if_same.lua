-- KEYS: 1 the session. Its arguments: the fields and texts that it held, in any order.
-- Deletes the session if it still holds just that. Answers 1, or 0 where a request wrote to it meanwhile, or -1 where
-- it is gone: a copy of it must not outlive it.
return steps(1, function(i, first, its_numbers)
  local now_there = redis.call('HGETALL', KEYS[i])
  if #now_there == 0 then
    is_absent(KEYS[i])
    return -1
  end
  local count = its_numbers[1]
  if #now_there ~= count then
    return 0
  end
  local held = {}
  for field = first, first + count - 1, 2 do
    held[ARGV[field]] = ARGV[field + 1]
  end
  for field = 1, #now_there, 2 do
    if held[now_there[field]] ~= now_there[field + 1] then
      return 0
    end
  end
  redis.call('UNLINK', KEYS[i])
  return 1
end)
