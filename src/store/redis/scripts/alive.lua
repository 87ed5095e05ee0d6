-- KEYS: sessions. Answers for each: 1 where it is there, 2 where it comes from a renewal that is not done, 0 where it is not
-- there, a list of the text of a replacement record, or the text of an error.
local answers = {}
for i = 1, #KEYS do
  local key, answer = KEYS[i], 1
  local replaces = redis.pcall('HGET', key, '@replaces')
  if type(replaces) == 'table' then
    answer = replaces.err
    if string.find(answer, '^WRONGTYPE') then
      answer = redis.call('TYPE', key).ok == 'string' and { redis.call('GET', key) } or 0
    end
  elseif replaces then
    answer = 2
  elseif redis.call('EXISTS', key) == 0 then
    -- A replica may not have heard of the session yet. It refuses this, which changes nothing.
    local removed = redis.pcall('HDEL', key, '@')
    answer = type(removed) == 'table' and removed.err or 0
  end
  answers[i] = answer
end
return answers
