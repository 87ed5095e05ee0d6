-- KEYS: sessions that were loaded. ARGV, for each: the full time to live in milliseconds, and the idle timeout of its own
-- that it had then, or nothing.
-- Gives each its full time to live. One that has another idle timeout since then is left alone: whoever gave it that has
-- set its time to live, too. One that is being renewed may have longer. Answers for each 1, or the text of an error.
local answers = {}
for i = 1, #KEYS do
  local key, full, answer = KEYS[i], tonumber(ARGV[2 * i - 1]), 1
  local own = redis.pcall('HGET', key, '@idle')
  if type(own) == 'table' then
    -- A replacement record keeps its time, as does what is not ours.
    if not string.find(own.err, '^WRONGTYPE') then
      answer = own.err
    end
  elseif (own or '') == ARGV[2 * i] then
    local left = redis.call('PTTL', key)
    local is_longer = left == -1 or left > full
    if left ~= -2 and left ~= full and not (is_longer and redis.call('HEXISTS', key, '@replaced') == 1) then
      local refused = redis.pcall('PEXPIRE', key, full)
      if type(refused) == 'table' then
        answer = refused.err
      end
    end
  end
  answers[i] = answer
end
return answers
