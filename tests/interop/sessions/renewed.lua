-- KEYS: what a session has in `@replaces`, its old key. ARGV: its own key.
-- The layer has begun to give it its new id. Ends that: the old key says which one took its place. Answers 1, after which
-- `@replaces` is to be removed; or 0 where a logout came first: then it is no session.
local kind = redis.call('TYPE', KEYS[1]).ok
if kind == 'hash' then
  local mark = redis.call('HGET', KEYS[1], '@replaced') or ''
  if string.sub(mark, 1, 40) ~= redis.sha1hex(ARGV[1]) then
    return 0
  end
  redis.call('SET', KEYS[1], ARGV[1], 'KEEPTTL')
  return 1
end
return kind == 'string' and redis.call('GET', KEYS[1]) == ARGV[1] and 1 or 0
