-- KEYS: 1 the key that a request presented. A: its deadline; the record of the session that takes its place; 1 where there
-- was a session when the request began, else 0; for how long the record stays, in milliseconds.
-- Answers 0, -1 where that session has ended meanwhile, -4 where it is too late, -6 where it is being renewed, -7 where
-- there is another record, or the text of an error; then the time.
local key = KEYS[1]
if A[1] - now <= 0 then
  return { -4, now }
end
local kind = redis.call('TYPE', key).ok
if kind == 'none' and A[3] == '1' then
  -- A replica may not have heard of the session yet. It refuses this, which changes nothing.
  local refused = redis.pcall('UNLINK', key)
  return { type(refused) == 'table' and refused.err or -1, now }
end
if kind == 'hash' then
  local mark = redis.call('HGET', key, '@replaced')
  if mark and now <= (tonumber(string.match(mark, '%d+$')) or 0) then
    return { -6, now }
  end
end
if kind == 'hash' or kind == 'none' then
  if redis.pcall('SET', key, A[2], 'PX', A[4]).err then
    -- As in turn.lua.
    redis.call('PEXPIRE', key, A[4])
    redis.call('SET', key, A[2], 'PX', A[4])
  end
elseif kind == 'string' and redis.call('GET', key) ~= A[2] then
  return { -7, now }
end
return { 0, now }
