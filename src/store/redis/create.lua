-- KEYS: 1 the session. Answers as `write` does, or -3 where the key is taken.
return in_time(function()
  if redis.call('EXISTS', KEYS[1]) == 1 then
    return -3
  end
  local answer = write(KEYS[1])
  if type(answer) == 'table' then
    -- Nothing may be left that has no end.
    redis.call('UNLINK', KEYS[1])
  end
  return answer
end)
