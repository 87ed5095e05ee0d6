-- KEYS: sessions. ARGV: as in common.lua, 4 whether to refresh ('1' or '0'), 5 '1' where the server is to say when one
-- of them changes.
-- Answers for each key: false where there is nothing, -6 where there is something else than a session, {-5} where the
-- session's absolute end has come, the text of an error, else its hash, followed by its time to live in milliseconds,
-- and 1 where that was refreshed. A session that can be read is answered also where Redis refuses to write: the text of
-- that refusal then comes last. It is all that most requests do in Redis, so it makes no call that it can do without.
local REFRESHES, TRACKED = ARGV[4] == '1', ARGV[5] == '1'

return answers(#KEYS, function(at)
  local key = KEYS[at]
  local hash = redis.pcall('HGETALL', key)
  if hash.err then
    return string.find(hash.err, '^WRONGTYPE') and -6 or hash
  end
  if #hash == 0 then
    is_absent(key)
    return false
  end
  local own, created
  for i = 1, #hash, 2 do
    if hash[i] == '@idle' then
      own = hash[i + 1]
    elseif hash[i] == '@created' then
      created = hash[i + 1]
    end
  end
  local full, idle, refused = time_to_live(key, own, created, REFRESHES)
  if not full then
    refused = REFRESHES and refusal(redis.pcall('UNLINK', key))
    return { -5, refused and refused.err or nil }
  end
  local left, due = nil, REFRESHES
  if not (REFRESHES and INTERVAL == 0) then
    left = redis.call('PTTL', key)
    -- Below 0: another program made the session without an end. Else as `Expiry::is_due`.
    due = due and (left < 0 or left > full or full - left >= INTERVAL or left < math.min(idle, full))
  end
  local not_refreshed = due and refusal(redis.pcall('PEXPIRE', key, digits(full)))
  if not_refreshed then
    refused, due = not_refreshed, false
    left = left or redis.call('PTTL', key)
  elseif due then
    if TRACKED then
      -- A change that a connection makes itself is not told to it, and is the end of tracking that key: it has to be
      -- read again.
      redis.call('EXISTS', key)
    end
    left = full
  end
  hash[#hash + 1] = left
  hash[#hash + 1] = due and 1 or 0
  if refused then
    hash[#hash + 1] = refused.err
  end
  return hash
end)
