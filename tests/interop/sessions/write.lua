-- KEYS: a session. ARGV: how many names are removed, these names, then names and texts to set.
-- Answers 1, or 0 where there is no such session any more: then nothing is written.
local key, removed, now = KEYS[1], tonumber(ARGV[1]), redis.call('TIME')
if redis.call('TYPE', key).ok ~= 'hash' then
  return 0
end
-- The layer gives it a new id in just this moment, until the time in the mark. What is written here now would be lost.
local mark = redis.call('HGET', key, '@replaced')
if mark and tonumber(string.match(mark, '%d+$')) >= now[1] * 1000 + now[2] / 1000 then
  return 0
end
-- Set first: with its last field a hash goes, and what is set after that never ends.
if #ARGV > removed + 1 then
  redis.call('HSET', key, unpack(ARGV, removed + 2))
end
if removed > 0 then
  redis.call('HDEL', key, unpack(ARGV, 2, removed + 1))
end
return 1
