-- In place of the first line of time.lua and no_time.lua where arguments can only be text: of each character, the number is
-- the byte that is meant.
local A = {}
for i = 1, #ARGV do
  A[i] = string.gsub(ARGV[i], '([\194\195])(.)', function(lead, byte)
    return lead == '\194' and byte or string.char(string.byte(byte) + 64)
  end)
end
