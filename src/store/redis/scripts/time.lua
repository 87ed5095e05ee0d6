-- Stands before the scripts that have deadlines. `A` is their arguments, `now` this server's time in milliseconds.
local A = ARGV
local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000
