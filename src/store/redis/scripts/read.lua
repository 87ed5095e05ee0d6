-- KEYS: sessions. ARGV, once for all: the full time to live in milliseconds, or nothing.
-- Answers for each its hash, and behind that what refreshing it has answered; or, where there is no full time to live, the
-- time that it has. A hash with fields of the layer's own may have another full time to live: it is not refreshed.
local call, full, answers = redis.pcall, ARGV[1], {}
for i = 1, #KEYS do
  local key = KEYS[i]
  local hash = call('HGETALL', key)
  local count = #hash
  if hash.err then
    hash = string.find(hash.err, '^WRONGTYPE') and {} or hash.err
  elseif count > 0 then
    if full == '' then
      hash[count + 1] = call('PTTL', key)
    else
      local is_plain = true
      for at = 1, count, 2 do
        local name = hash[at]
        if name == '@idle' or name == '@created' or name == '@replaces' then
          is_plain = false
        end
      end
      if is_plain then
        local refreshed = call('PEXPIRE', key, full, 'GT')
        hash[count + 1] = type(refreshed) == 'table' and refreshed.err or refreshed
      end
    end
  end
  answers[i] = hash
end
return answers
