-- KEYS: 1 the session. ARGV: as in common.lua, 4 whether to refresh ('1' or '0').
-- Answers nil where there is nothing, -6 where there is something else than a session, -5 where the session's absolute
-- end has come, else: time to live in milliseconds, 1 where it was refreshed, the hash.
local key = KEYS[1]
local kind = redis.call('TYPE', key).ok
if kind ~= 'hash' then
  return kind ~= 'none' and -6
end
local refreshes = ARGV[4] == '1'
local full, idle = time_to_live(key, refreshes)
if not full then
  if refreshes then
    redis.call('UNLINK', key)
  end
  return -5
end
local left = redis.call('PTTL', key)
local refreshed = 0
-- Below 0: another program made the session without an end. Else as `Expiry::is_due`.
local due = left > full or full - left >= tonumber(ARGV[3]) or left < math.min(idle, full)
if refreshes and (left < 0 or due) then
  redis.call('PEXPIRE', key, string.format('%.0f', full))
  left, refreshed = full, 1
end
return { left, refreshed, redis.call('HGETALL', key) }
