-- KEYS: 1 the session. ARGV: the fields and texts that it held, in any order; last the deadline.
-- Deletes the session if it still holds just that. Answers 1, or 0 where a request wrote to it meanwhile, or -1 where
-- it is gone: a copy of it must not outlive it.
return in_time(function()
  local now_there = redis.call('HGETALL', KEYS[1])
  if #now_there == 0 then
    is_absent(KEYS[1])
    return -1
  end
  if #now_there ~= #ARGV - 1 then
    return 0
  end
  local held = {}
  for i = 1, #ARGV - 1, 2 do
    held[ARGV[i]] = ARGV[i + 1]
  end
  for i = 1, #now_there, 2 do
    if held[now_there[i]] ~= now_there[i + 1] then
      return 0
    end
  end
  redis.call('UNLINK', KEYS[1])
  return 1
end)
