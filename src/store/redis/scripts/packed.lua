-- In place of the first line of time.lua and no_time.lua where there are more arguments than a command may have: ARGV is
-- how long each is, and all of them in one text.
local A, from = {}, 1
for length in string.gmatch(ARGV[1], '%d+') do
  A[#A + 1] = string.sub(ARGV[2], from, from + length - 1)
  from = from + length
end
