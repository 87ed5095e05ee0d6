-- KEYS: 1 a session. A: its deadline; a field, which is removed.
-- Answers a list of its text, and 1 where other fields are left or 0 where the session is deleted with it; 0 where there is
-- no such field, -1 where there is no session, -4 where it is too late, -6 where the session is being renewed, -7 where it
-- was replaced, or the text of an error; then the time.
local key, field = KEYS[1], A[2]
if A[1] - now < 0 then
  return { -4, now }
end
local stored = redis.pcall('HMGET', key, field, '@replaced')
if stored.err then
  if string.find(stored.err, '^WRONGTYPE') then
    return { redis.call('TYPE', key).ok == 'string' and -7 or -1, now }
  end
  return { stored.err, now }
end
local text, mark = stored[1], stored[2]
if mark and now <= (tonumber(string.match(mark, '%d+$')) or 0) then
  return { -6, now }
end
-- Also where there is nothing: a replica, which may not have heard of it yet, refuses this.
local removed = redis.pcall('HDEL', key, text and field or '@')
if type(removed) == 'table' then
  return { removed.err, now }
end
if not text then
  return { 0, now }
end
-- While a slot moves, a script may not even look for a key that is not there any more.
local names = redis.pcall('HKEYS', key)
for _, name in ipairs(names.err and {} or names) do
  if string.byte(name) ~= 64 then -- '@'
    return { { text, 1 }, now }
  end
end
redis.pcall('UNLINK', key)
return { { text, 0 }, now }
