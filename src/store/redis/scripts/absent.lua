-- KEYS: where no session was found. Answers for each: 0 where there is nothing, 1 where there is a hash after all, 2 for
-- a replacement record, 3 for what is not ours.
local answers = {}
for i = 1, #KEYS do
  local key = KEYS[i]
  -- A replica may not have heard of a session yet. It refuses this, which changes nothing.
  local removed = redis.pcall('HDEL', key, '@')
  if type(removed) ~= 'table' then
    answers[i] = redis.call('EXISTS', key)
  elseif string.find(removed.err, '^WRONGTYPE') then
    answers[i] = redis.call('TYPE', key).ok == 'string' and 2 or 3
  else
    answers[i] = removed.err
  end
end
return answers
