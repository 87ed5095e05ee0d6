-- KEYS: 1 a new session. A: its deadline; the time to live in milliseconds; of a renewal the old key, else nothing; 1 where
-- the time of creation is written down, else 0; names and texts.
-- Answers 0, -3 where the key is taken, -4 where it is too late, or the text of an error; then the time.
local key, refused, before = KEYS[1], nil, {}
if A[1] - now <= 0 then
  return { -4, now }
end
if redis.call('EXISTS', key) == 1 then
  -- Unless an earlier attempt of this renewal has left it.
  local replaces = A[3] ~= '' and redis.pcall('HGET', key, '@replaces')
  if replaces ~= A[3] then
    return { -3, now }
  end
  before = redis.call('HKEYS', key)
end
if A[4] == '1' then
  A[#A + 1] = '@created'
  A[#A + 1] = now
end
for from = 5, #A, 1000 do
  refused = redis.pcall('HSET', key, (table.unpack or unpack)(A, from, math.min(from + 999, #A)))
  if type(refused) == 'table' then
    break
  end
end
if type(refused) ~= 'table' then
  refused = redis.pcall('PEXPIRE', key, A[2])
end
-- What is left of that attempt. It is not deleted as a whole before: while a slot moves, a script may not write a key that
-- is not there.
local is_set = {}
for at = 5, before[1] and #A or 0, 2 do
  is_set[A[at]] = true
end
for _, name in ipairs(before) do
  if not is_set[name] then
    redis.call('HDEL', key, name)
  end
end
if type(refused) == 'table' then
  -- Nothing may be left without an end.
  redis.call('UNLINK', key)
  return { refused.err, now }
end
return { 0, now }
