-- KEYS: 1 the session, 2 its new key. Answers as `write` does; -1 where there is no session, -3 where the new key
-- is taken. The changes come first, since they can fail; the move cannot.
if not is_session(KEYS[1]) then
  return -1
end
if redis.call('EXISTS', KEYS[2]) == 1 then
  return -3
end
local answer = write(KEYS[1])
if type(answer) == 'number' and answer >= 0 then
  redis.call('RENAME', KEYS[1], KEYS[2])
end
return answer
