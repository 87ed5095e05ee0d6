-- KEYS: new sessions. A, for each: its deadline, the time to live in milliseconds, names and texts; as many for each.
-- Answers the time where all is done. Else a list: for each 0 where that is done, -3 where the key is taken, -4 where it is
-- too late, or the text of an error; then the time.
local call, pcall = redis.call, redis.pcall
local each, answers = #A / #KEYS, nil
for i = 1, #KEYS do
  local key, at, answer = KEYS[i], (i - 1) * each, 0
  if A[at + 1] - now <= 0 then
    answer = -4
  elseif call('EXISTS', key) == 1 then
    answer = -3
  else
    local refused
    for from = at + 3, at + each, 1000 do
      refused = pcall('HSET', key, (table.unpack or unpack)(A, from, math.min(from + 999, at + each)))
      if type(refused) == 'table' then
        break
      end
    end
    if type(refused) ~= 'table' then
      refused = pcall('PEXPIRE', key, A[at + 2])
    end
    if type(refused) == 'table' then
      answer = refused.err
      -- Nothing may be left without an end. But what is not there is not deleted: that would count as a write, and after
      -- a write, a server whose memory is full lets the rest of this call pass.
      if call('EXISTS', key) == 1 then
        call('UNLINK', key)
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
