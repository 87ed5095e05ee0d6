-- KEYS: 1 the session, 2 its new key. The second half of a renewal: the session moves, with all that was written to it
-- since the first half. Answers as `write` does; -1 where there is no session. Running it again changes nothing.
--
-- Where its answer is lost it comes again, when the client may have used its new id already. The field @prepared of the
-- new key tells: 1 since the first half, 2 once something was written to it, none once this is done.
local function renew(old, new, first, its_numbers)
  local prepared = is_session(new) and redis.call('HGET', new, '@prepared')
  if not is_session(old) then
    if prepared then
      -- Logged out since the first half.
      redis.call('UNLINK', new)
      return -1
    end
    -- An earlier attempt, whose answer was lost, has moved it.
    local left = redis.call('PTTL', new)
    return left < 0 and -1 or left
  end
  if not prepared then
    -- Logged out under its new id, or moved by an earlier attempt, and another program has made the old one again.
    redis.call('UNLINK', old)
    local left = redis.call('PTTL', new)
    return left < 0 and -1 or left
  end
  if prepared ~= '1' then
    redis.call('UNLINK', old)
    redis.call('HDEL', new, '@prepared')
    return redis.call('PTTL', new)
  end
  -- Before anything is changed, since this can be refused. What the first half made is put aside: if the session cannot
  -- be changed any more, the client has the new id all the same, and that must work.
  local aside = new .. ':prepared'
  redis.call('RENAME', new, aside)
  redis.call('RENAME', old, new)
  local answer = attempt(function()
    -- The first half's mark, if an earlier renewal without a second half has left it.
    redis.call('HDEL', new, '@prepared')
    return write(new, first, its_numbers)
  end)
  if type(answer) == 'table' then
    redis.call('RENAME', new, old)
    redis.call('RENAME', aside, new)
  else
    -- It is done: without the right to do this, the copy ends by itself.
    redis.pcall('UNLINK', aside)
  end
  return answer
end

return steps(2, function(i, ...)
  return renew(KEYS[i], KEYS[i + 1], ...)
end)
