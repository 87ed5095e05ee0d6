-- KEYS: 1 the session, 2 its new key. The second half of a renewal: the session moves, with all that was written to it
-- since the first half. Answers as `write` does; -1 where there is no session. Running it again changes nothing.
--
-- Where its answer is lost it comes again, when the client may have used its new id already. The field @prepared of the
-- new key tells: 1 since the first half, 2 once something was written to it, none once this is done.
return in_time(function()
  local prepared = is_session(KEYS[2]) and redis.call('HGET', KEYS[2], '@prepared')
  if not is_session(KEYS[1]) then
    if prepared then
      -- Logged out since the first half.
      redis.call('UNLINK', KEYS[2])
      return -1
    end
    -- An earlier attempt, whose answer was lost, has moved it.
    local left = redis.call('PTTL', KEYS[2])
    return left < 0 and -1 or left
  end
  if not prepared then
    -- Logged out under its new id, or moved by an earlier attempt, and another program has made the old one again.
    redis.call('UNLINK', KEYS[1])
    local left = redis.call('PTTL', KEYS[2])
    return left < 0 and -1 or left
  end
  if prepared ~= '1' then
    redis.call('UNLINK', KEYS[1])
    redis.call('HDEL', KEYS[2], '@prepared')
    return redis.call('PTTL', KEYS[2])
  end
  -- Before anything is changed, since this can be refused.
  redis.call('RENAME', KEYS[1], KEYS[2])
  local answer = attempt(function(key)
    -- The first half's mark, if an earlier renewal without a second half has left it.
    redis.call('HDEL', key, '@prepared')
    return write(key)
  end, KEYS[2])
  if type(answer) == 'table' then
    redis.call('RENAME', KEYS[2], KEYS[1])
  end
  return answer
end)
