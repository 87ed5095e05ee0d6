-- KEYS: sessions. A, for each: its deadline; the full time to live of a session without an idle timeout of its own, and
-- the refresh interval, in milliseconds; a name and the number that is added to its field.
-- Answers the time where all is done. Else a list: for each 0 where that is done, or for a session with an idle timeout of
-- its own a list of its time to live in milliseconds, this timeout, and what it says of its cookie; -1 where there is no
-- session, -4 where it is too late, -6 where the session is being renewed, -7 where it was replaced, or the text of an
-- error; then the time.
local call, pcall = redis.call, redis.pcall
local each, answers = #A / #KEYS, nil
for i = 1, #KEYS do
  local key, at = KEYS[i], (i - 1) * each
  local answer, full, kept = 0, A[at + 2], 0
  local own = pcall('HGET', key, '@idle')
  if A[at + 1] - now <= 0 then
    answer = -4
  elseif type(own) == 'table' then
    answer = own.err
    if string.find(answer, '^WRONGTYPE') then
      answer = call('TYPE', key).ok == 'string' and -7 or -1
    end
  elseif own then
    -- A session that is being renewed has this field, too.
    local more = call('HMGET', key, '@replaced', '@cookie')
    local mark = more[1]
    if mark and now <= (tonumber(string.match(mark, '%d+$')) or 0) then
      answer = -6
    elseif string.find(own, '^%d+$') then
      local number = tonumber(own)
      if number >= 1 and number <= 3153600000000 then -- 100 years, as in expiry.rs
        full = number + A[at + 3]
        kept = { full, own, more[2] }
      end
    end
  elseif call('EXISTS', key) == 0 then
    -- A replica may not have heard of the session yet. It refuses this, which changes nothing.
    local refused = pcall('UNLINK', key)
    answer = type(refused) == 'table' and refused.err or -1
  end
  if answer == 0 then
    local refused = pcall('HINCRBY', key, A[at + 4], A[at + 5])
    if type(refused) ~= 'table' then
      refused = pcall('PEXPIRE', key, full)
    end
    answer = kept
    if type(refused) == 'table' then
      answer = refused.err
      if string.find(answer, 'not an integer') or string.find(answer, 'overflow') then
        answer = 'INCREMENT ' .. answer
      end
    end
  end
  if answer ~= 0 then
    answers = answers or {}
    answers[i] = answer
  end
end
if not answers then
  return now
end
for i = 1, #KEYS do
  answers[i] = answers[i] or 0
end
answers[#KEYS + 1] = now
return answers
