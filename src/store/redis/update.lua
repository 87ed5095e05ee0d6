-- KEYS: the sessions. Answers for each as `write` does; -1 where there is no session: a bare HSET would bring it back.
return steps(1, function(i, first, its_numbers)
  if not is_session(KEYS[i]) then
    return -1
  end
  return write(KEYS[i], first, its_numbers)
end)
