-- KEYS: sessions that were loaded. ARGV, once for all: the full time to live in milliseconds, and the idle timeout of its
-- own that each had then, or nothing.
-- Gives each its full time to live. One that has another idle timeout since then is left alone: whoever gave it that has
-- set its time to live, too. One that is being renewed may have longer. Answers for each 1, or the text of an error.
local call, full, own, answers = redis.pcall, ARGV[1], ARGV[2], {}
for i = 1, #KEYS do
  local key, answer = KEYS[i], 1
  local idle = call('HGET', key, '@idle')
  if type(idle) == 'table' then
    -- A replacement record keeps its time, as does what is not ours.
    if not string.find(idle.err, '^WRONGTYPE') then
      answer = idle.err
    end
  elseif (idle or '') == own and call('PEXPIRE', key, full, 'GT') ~= 1 then
    -- It is gone, has no end, or has as long or longer. Or this is a Redis before version 7, which knows no `GT`.
    local left, most = redis.call('PTTL', key), tonumber(full)
    local is_longer = left == -1 or left > most
    if left ~= -2 and left ~= most and not (is_longer and redis.call('HEXISTS', key, '@replaced') == 1) then
      local refused = call('PEXPIRE', key, full)
      if type(refused) == 'table' then
        answer = refused.err
      end
    end
  end
  answers[i] = answer
end
return answers
