-- KEYS: 1 a session. ARGV: the new key of a renewal that did not happen, and the attempt's number. Takes its mark away, so
-- that nobody waits for it.
local key = KEYS[1]
local mark, idle = (table.unpack or unpack)(redis.call('HMGET', key, '@replaced', '@idle'))
local ours = redis.sha1hex(ARGV[1]) .. ' ' .. ARGV[2] .. ' '
if mark and string.sub(mark, 1, #ours) == ours then
  redis.call('HDEL', key, '@replaced')
  if idle == '0' then
    redis.call('HDEL', key, '@idle')
  end
end
return { 1 }
