-- Runs scripts that come over standard input. What they call goes out over standard output, and its reply comes in. A
-- text is its length, a line's end, the text, and another line's end; before a value stands a line with its kind.

local function read()
  local text = io.read(tonumber(io.read()))
  io.read()
  return text
end

local function write(text)
  io.write(#text, '\n', text, '\n')
end

local function list(item)
  local all = {}
  for i = 1, tonumber(io.read()) do
    all[i] = item()
  end
  return all
end

local function reply()
  local kind = io.read()
  if kind == 'integer' then
    return math.tointeger(read())
  elseif kind == 'text' then
    return read()
  elseif kind == 'status' then
    return { ok = read() }
  elseif kind == 'error' then
    return { err = read() }
  elseif kind == 'list' then
    return list(reply)
  end
  return false
end

local function pcall_redis(...)
  local args = { ... }
  io.write('call\n', #args, '\n')
  for _, arg in ipairs(args) do
    write(math.type(arg) == 'float' and string.format('%.17g', arg) or tostring(arg))
  end
  io.flush()
  return reply()
end

local function call_redis(...)
  local answer = pcall_redis(...)
  if type(answer) == 'table' and answer.err then
    error(answer, 0)
  end
  return answer
end

local function answer(value)
  if math.type(value) == 'integer' or value == true then
    io.write('integer\n')
    write(value == true and '1' or tostring(value))
  elseif type(value) == 'string' or type(value) == 'number' then
    -- As in RESP2 there is no other number.
    io.write('text\n')
    write(tostring(value))
  elseif not value then
    io.write('nothing\n')
  elseif value.err or value.ok then
    io.write(value.err and 'error\n' or 'status\n')
    write(value.err or value.ok)
  else
    io.write('list\n', #value, '\n')
    for i = 1, #value do
      answer(value[i])
    end
  end
end

local redis = {
  call = call_redis,
  pcall = pcall_redis,
  sha1hex = function(text)
    return call_redis('EVAL', 'return redis.sha1hex(ARGV[1])', '0', text)
  end,
}
local strict = {
  __index = function(_, name)
    error("Script attempted to access nonexistent global variable '" .. name .. "'", 2)
  end,
}
while io.read(0) do
  local text = read()
  local globals = { KEYS = list(read), ARGV = list(read), redis = redis, math = math, string = string, table = table }
  globals.type, globals.tonumber, globals.tostring = type, tonumber, tostring
  globals.pairs, globals.ipairs = pairs, ipairs
  local script, wrong = load(text, '@user_script', 't', setmetatable(globals, strict))
  local ok, value = false, wrong
  if script then
    ok, value = pcall(script)
  end
  io.write('answer\n')
  if not ok and type(value) ~= 'table' then
    value = { err = 'ERR ' .. value }
  end
  answer(value)
  io.flush()
end
