-- Stands, after common.lua, before each script that writes. ARGV, from 4 on, for each step: its deadline in
-- milliseconds of this server's time, its numbers, of which the first is how many arguments follow, and these. Nobody
-- waits for an answer after the deadline: the caller was told that the write failed. A step that comes so late, out of a
-- socket's buffer or after the server stood still, must do nothing.

-- The numbers in a text like '4 2 0 0'. Each text is read once, since most steps are alike.
local numbers_in = {}
local function numbers(text)
  local known = numbers_in[text]
  if not known then
    local a, b, c, d, e = string.match(text, '^(%d+) ?(%d*) ?(%d*) ?(%d*) ?(%d*)$')
    known = { tonumber(a), tonumber(b), tonumber(c), tonumber(d), tonumber(e) }
    numbers_in[text] = known
  end
  return known
end

-- Runs `run` for each step, with the place of its first key, that of its first argument, and its numbers. Answers for
-- each: a number, -4 where it is too late, or the text of an error. The server's time goes along, so that the next
-- deadline is right.
local function steps(keys_of_each, run)
  local time, at = now(), 4
  local all = answers(#KEYS / keys_of_each, function(step)
    local deadline, its_numbers, first = tonumber(ARGV[at]), numbers(ARGV[at + 1]), at + 2
    at = first + its_numbers[1]
    return time <= deadline and run((step - 1) * keys_of_each + 1, first, its_numbers) or -4
  end)
  all[#all + 1] = time
  return all
end
