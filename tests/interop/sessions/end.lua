-- KEYS: a session. ARGV: the key of the session that takes its place, or nothing, which is a logout.
-- Ends it. Where another took its place already, a logout is answered that one's key: it is then to be ended, too.
local key, new = KEYS[1], ARGV[1]
local is_replaced = redis.call('TYPE', key).ok == 'string'
if new then
  -- For a minute, this tells requests that come late with the old id.
  if not is_replaced then
    redis.call('SET', key, 'ended ' .. new, 'PX', 60000)
  end
  return false
end
if is_replaced then
  return (string.gsub(redis.call('GET', key), '^ended ', ''))
end
redis.call('DEL', key)
return false
