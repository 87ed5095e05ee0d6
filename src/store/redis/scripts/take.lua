-- KEYS: 1 a session. A: its deadline; a field, which is removed.
-- Answers a list of its text, and 1 where other fields are left or 0 where the session is deleted with it; 0 where there is
-- no such field, -1 where there is no session, -4 where it is too late, -6 where the session is being renewed, -7 where it
-- was replaced, or the text of an error; then the time.
local key, field = KEYS[1], A[2]
if A[1] - now <= 0 then
  return { -4, now }
end
local hash = redis.pcall('HGETALL', key)
if hash.err then
  if string.find(hash.err, '^WRONGTYPE') then
    return { redis.call('TYPE', key).ok == 'string' and -7 or -1, now }
  end
  return { hash.err, now }
end
local text, mark, others = nil, nil, false
for at = 1, #hash, 2 do
  local name = hash[at]
  if name == field then
    text = hash[at + 1]
  elseif name == '@replaced' then
    mark = hash[at + 1]
  elseif string.byte(name) ~= 64 then -- '@'
    others = true
  end
end
if mark and now <= (tonumber(string.match(mark, '%d+$')) or 0) then
  return { -6, now }
end
local removed
if text and not others then
  removed = redis.pcall('UNLINK', key)
else
  -- Also where there is nothing: a replica, which may not have heard of it yet, refuses this.
  removed = redis.pcall('HDEL', key, text and field or '@')
end
if type(removed) == 'table' then
  return { removed.err, now }
end
return { text and { text, others and 1 or 0 } or 0, now }
