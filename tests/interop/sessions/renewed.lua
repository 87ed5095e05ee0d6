-- KEYS: what a session has in `@replaces`, its old key. ARGV: its own key.
-- Answers 1 where the layer gave it its new id, and 0 where a logout came before that was done: then it is no session.
local kind = redis.call('TYPE', KEYS[1]).ok
if kind == 'hash' then
  local mark = redis.call('HGET', KEYS[1], '@replaced') or ''
  return string.sub(mark, 1, 40) == redis.sha1hex(ARGV[1]) and 1 or 0
end
return kind == 'string' and redis.call('GET', KEYS[1]) == ARGV[1] and 1 or 0
