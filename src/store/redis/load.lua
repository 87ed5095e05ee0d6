-- KEYS: sessions. ARGV: as in common.lua, 4 whether to refresh ('1' or '0'), 5 '1' where the server is to say when one
-- of them changes.
-- Answers for each key: false where there is nothing, -6 where there is something else than a session, {-5} where the
-- session's absolute end has come, -7 where it is too large to be answered with others, so that nothing was done for it
-- yet, the text of an error, else its hash, followed by its time to live in milliseconds, and 1 where that was refreshed.
-- A session that can be read is answered also where Redis refuses to write: the text of that refusal then comes last.
-- It is all that most requests do in Redis, so it makes no call that it can do without.
local REFRESHES, TRACKED = ARGV[4] == '1', ARGV[5] == '1'
-- In bytes: what a layer lets a session become by default, and 1 KiB for the layer's own fields. So what 64 sessions are
-- answered is 4 MiB at most, and one that another program has made larger is waited for by those who want it.
local LARGEST = 65 * 1024
-- And in fields, counted with their texts: many small ones take as long to be read as a few large ones.
local MOST = 2 * 4096

return answers(#KEYS, function(at)
  local key = KEYS[at]
  local hash = redis.pcall('HGETALL', key)
  if hash.err then
    return string.find(hash.err, '^WRONGTYPE') and -6 or hash
  end
  local count = #hash
  if count == 0 then
    is_absent(key)
    return false
  end
  local own, created, size = nil, nil, 0
  for i = 1, count, 2 do
    local name, text = hash[i], hash[i + 1]
    size = size + #name + #text
    if name == '@idle' then
      own = text
    elseif name == '@created' then
      created = text
    end
  end
  if (size > LARGEST or count > MOST) and #KEYS > 1 then
    return -7
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
  local answer = due and redis.pcall('PEXPIRE', key, digits(full))
  due = answer == 1
  if due then
    if TRACKED then
      -- A change that a connection makes itself is not told to it, and is the end of tracking that key: it has to be
      -- read again.
      redis.call('EXISTS', key)
    end
    left = full
  else
    refused = refusal(answer) or refused
    left = left or redis.call('PTTL', key)
  end
  hash[count + 1] = left
  hash[count + 2] = due and 1 or 0
  if refused then
    hash[count + 3] = refused.err
  end
  return hash
end)
