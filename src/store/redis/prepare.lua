-- KEYS: 1 the session, 2 its new key. The first half of a renewal: makes the session under its new key, changed, and
-- leaves the old one as it is. Answers as `write` does; -1 where there is no session, -3 where the new key is taken.
-- Until this is answered the client has the old id, which works; from then on the new one, which works as well.
local function prepare(old, new, first, its_numbers)
  if not is_session(old) then
    return -1
  end
  if redis.call('EXISTS', new) == 1 then
    if not (is_session(new) and redis.call('HGET', new, '@prepared')) then
      return -3
    end
    -- What an attempt left whose answer was lost.
    redis.call('UNLINK', new)
  end
  local answer = make(new, function()
    local fields = redis.call('HGETALL', old)
    for from = 1, #fields, 1000 do
      redis.call('HSET', new, unpack(fields, from, math.min(from + 999, #fields)))
    end
    redis.call('HSET', new, '@prepared', 1)
    return write(new, first, its_numbers, 'prepared')
  end)
  if type(answer) == 'number' and answer < 0 then
    -- No field was left, or the absolute end has come.
    redis.call('UNLINK', old)
  end
  return answer
end

return steps(2, function(i, ...)
  return prepare(KEYS[i], KEYS[i + 1], ...)
end)
