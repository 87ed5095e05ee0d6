-- Stands, after common.lua, before each script that writes. ARGV: last the deadline, in milliseconds of this server's
-- time. Nobody waits for the answer after it: the caller was told that the write failed. A script that comes so late,
-- out of a socket's buffer or after the server stood still, must do nothing.
local DEADLINE = tonumber(ARGV[#ARGV])

-- Runs what a script does, unless it is too late (-4). The server's time goes along with each answer, so that the
-- next deadline is right.
local function in_time(run)
  local time = now()
  if time > DEADLINE then
    return { -4, time }
  end
  local answer = run()
  if type(answer) == 'table' then
    return answer
  end
  return { answer, time }
end
