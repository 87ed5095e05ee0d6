-- KEYS: a session. ARGV: the layer's idle timeout, in milliseconds.
-- Puts off the session's end, and answers its fields: names and texts in turn. An empty list where there is no session,
-- and false where there is none any more because another took its place a moment ago.
local kind = redis.call('TYPE', KEYS[1]).ok
if kind == 'string' then
  return false
elseif kind ~= 'hash' then
  return {}
end
-- A user who wanted to be remembered has an idle timeout of their own. 0 is none.
local own = tonumber(redis.call('HGET', KEYS[1], '@idle')) or 0
redis.call('PEXPIRE', KEYS[1], own > 0 and own or ARGV[1])
return redis.call('HGETALL', KEYS[1])
