-- KEYS: 1 the session. Answers as `write` does; -1 where there is no session: a bare HSET would bring it back.
return in_time(function()
  if not is_session(KEYS[1]) then
    return -1
  end
  return write(KEYS[1])
end)
