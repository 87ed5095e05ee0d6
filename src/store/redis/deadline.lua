-- Stands, after common.lua, before each script that writes. ARGV, from 4 on, for each step: its deadline in
-- milliseconds of this server's time, how many arguments follow, and these. Nobody waits for an answer after the
-- deadline: the caller was told that the write failed. A step that comes so late, out of a socket's buffer or after the
-- server stood still, must do nothing.

-- Runs `run` for each step, with the place of its first key and that of its first argument. Answers for each: a number,
-- -4 where it is too late, or the text of an error. The server's time goes along, so that the next deadline is right.
local function steps(keys_of_each, run)
  local time, answers, at = now(), {}, 4
  for first = 1, #KEYS, keys_of_each do
    local answer = -4
    if time <= tonumber(ARGV[at]) then
      answer = text_of(attempt(run, first, at + 2))
    end
    answers[#answers + 1] = answer
    at = at + 2 + tonumber(ARGV[at + 1])
  end
  answers[#answers + 1] = time
  return answers
end
