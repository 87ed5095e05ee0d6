-- KEYS: 1 a key that nobody uses. Answers 1, or an error that names the commands which scripts need and may not run.
local key, refused = KEYS[1], {}
local function may(name, ...)
  local answer = redis.pcall(name, ...)
  local text = type(answer) == 'table' and answer.err or ''
  -- In the words of Redis 7.0, of later ones and Valkey, of services, and of a server that does not know the command.
  local is_refused = string.find(text, "can't run this command", 1, true) or string.find(text, 'ACL failure', 1, true)
    or string.find(text, 'NOPERM', 1, true) or string.find(text, 'not allowed from script', 1, true)
    or string.find(text, 'Unknown Redis command', 1, true)
  if is_refused then
    refused[#refused + 1] = name
  end
  return not is_refused
end
may('HGETALL', key)
may('HMGET', key, 'f')
may('HGET', key, 'f')
may('HEXISTS', key, 'f')
may('HKEYS', key)
may('HDEL', key, 'f')
may('EXISTS', key)
may('TYPE', key)
may('GET', key)
may('PTTL', key)
-- Nothing is written that could stay.
if may('UNLINK', key) and may('PEXPIRE', key, 1000) then
  may('SET', key, '1', 'PX', 1000)
  redis.call('UNLINK', key)
  may('HSET', key, 'f', '1')
  may('HINCRBY', key, 'f', '1')
  redis.call('UNLINK', key)
end
return { #refused == 0 and 1 or 'NOPERM scripts may not run ' .. table.concat(refused, ', ') }
