-- Stands before the scripts that have deadlines. `A` is their arguments, `now` this server's time in milliseconds.
local A = ARGV
local time = redis.call('TIME')
-- Whole: Lua 5.4, which some services have, answers another number as a text.
local now = math.floor(time[1] * 1000 + time[2] / 1000)
