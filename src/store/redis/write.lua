-- Stands, after common.lua and deadline.lua, before create.lua, update.lua and renew.lua.
-- ARGV: 4 the session's own idle timeout in milliseconds or '', 5 how many fields are set, 6 how many are
-- removed, 7 how many incremented; then name, text, ...; name, ...; name, number, ...; last the deadline.
local SETS, REMOVES, INCREMENTS = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local FIRST_REMOVE = 8 + 2 * SETS
local FIRST_INCREMENT = FIRST_REMOVE + REMOVES

-- Lua's stack bounds how many arguments one call takes.
local function call_in_parts(command, key, first, last)
  for from = first, last, 1000 do
    redis.call(command, key, unpack(ARGV, from, math.min(from + 999, last)))
  end
end

-- A script is not rolled back, so what can fail comes first and is taken back by hand.
-- Answers nil, or the error of the increment that cannot be done.
local function increment(key)
  local done = {}
  for i = FIRST_INCREMENT, FIRST_INCREMENT + 2 * INCREMENTS - 1, 2 do
    local name = ARGV[i]
    local before = redis.call('HGET', key, name)
    local answer = redis.pcall('HINCRBY', key, name, ARGV[i + 1])
    if type(answer) == 'table' and answer.err then
      for _, old in ipairs(done) do
        if old[2] then
          redis.call('HSET', key, old[1], old[2])
        else
          redis.call('HDEL', key, old[1])
        end
      end
      if string.find(answer.err, 'not an integer') or string.find(answer.err, 'overflow') then
        return redis.error_reply('INCREMENT ' .. answer.err)
      end
      return answer
    end
    done[#done + 1] = { name, before }
  end
  return nil
end

-- Answers the time to live in milliseconds, -5 where the session's absolute end has come, or the server's refusal.
local function refresh(key, preparing)
  local own = redis.call('HMGET', key, '@idle', '@created', '@prepared')
  if own[3] == '1' and not preparing then
    -- The second half of its renewal is still to come: it must not undo this.
    redis.call('HSET', key, '@prepared', 2)
  end
  local full = time_to_live(key, own[1], own[2], true)
  if not full then
    redis.call('UNLINK', key)
    return -5
  end
  local answer = redis.pcall('PEXPIRE', key, string.format('%.0f', full))
  if type(answer) == 'table' and answer.err then
    return answer
  end
  return full
end

-- Runs what may raise an error, and answers that.
local function attempt(run, key)
  local done, answer = pcall(run, key)
  if not done and type(answer) ~= 'table' then
    return redis.error_reply(answer)
  end
  return answer
end

local function has_fields(key)
  for _, name in ipairs(redis.call('HKEYS', key)) do
    if string.byte(name) ~= 64 then -- '@'
      return true
    end
  end
  return false
end

-- Does the changes; answers the time to live in milliseconds, -5 where the session's absolute end has come, or
-- -2 where no field was left and the session is deleted. `preparing`: it is the first half of a renewal.
local function write(key, preparing)
  local failed = increment(key)
  if failed then
    return failed
  end
  call_in_parts('HSET', key, 8, FIRST_REMOVE - 1)
  if ARGV[4] ~= '' then
    redis.call('HSET', key, '@idle', ARGV[4])
  end
  if REMOVES > 0 then
    call_in_parts('HDEL', key, FIRST_REMOVE, FIRST_INCREMENT - 1)
    if not has_fields(key) then
      redis.call('UNLINK', key)
      return -2
    end
  end
  return refresh(key, preparing)
end

-- Makes a session. On an error nothing is left, and so nothing that has no end.
local function make(key, run)
  local answer = attempt(run, key)
  if type(answer) == 'table' then
    redis.call('UNLINK', key)
  end
  return answer
end
