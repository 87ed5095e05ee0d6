-- Stands, after common.lua and deadline.lua, before the scripts that make or change a session.
-- A step's numbers, after the first: how many fields are set, how many are removed, how many incremented, and, where it is
-- to change, the session's own idle timeout in milliseconds. Its arguments: name, text, ...; name, ...; name, number, ...

-- Runs what may raise an error, and answers that.
local function attempt(run, ...)
  local done, answer = pcall(run, ...)
  if not done and type(answer) ~= 'table' then
    return redis.error_reply(answer)
  end
  return answer
end

-- Lua's stack bounds how many arguments one call takes.
local function call_in_parts(command, key, first, last)
  for from = first, last, 1000 do
    redis.call(command, key, unpack(ARGV, from, math.min(from + 999, last)))
  end
end

-- A script is not rolled back, so what can fail comes first and is taken back by hand.
-- Answers nil, or the error of the increment that cannot be done.
local function increment(key, first, last)
  local done = {}
  for i = first, last, 2 do
    local name = ARGV[i]
    -- After the last of them there is nothing that could make it be taken back.
    local before = i + 1 < last and redis.call('HGET', key, name)
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

local function has_fields(key)
  for _, name in ipairs(redis.call('HKEYS', key)) do
    if string.byte(name) ~= 64 then -- '@'
      return true
    end
  end
  return false
end

-- Answers the time to live in milliseconds, -5 where the session's absolute end has come, or the server's refusal.
local function refresh(key, own, created)
  local full, _, refused = time_to_live(key, own, created, true)
  if refused then
    return refused
  end
  if not full then
    redis.call('UNLINK', key)
    return -5
  end
  return refusal(redis.pcall('PEXPIRE', key, digits(full))) or full
end

-- Does the changes whose arguments begin at `first_set`; answers the time to live in milliseconds, -5 where the session's
-- absolute end has come, or -2 where no field was left and the session is deleted. `kind`: 'new' where nothing was
-- stored before, 'prepared' in the first half of a renewal.
local function write(key, first_set, its_numbers, kind)
  local sets, removes, increments = its_numbers[2], its_numbers[3], its_numbers[4]
  local own = its_numbers[5] and digits(its_numbers[5])
  local first_remove = first_set + 2 * sets
  local first_increment = first_remove + removes
  if increments > 0 then
    local failed = increment(key, first_increment, first_increment + 2 * increments - 1)
    if failed then
      return failed
    end
  end
  call_in_parts('HSET', key, first_set, first_remove - 1)
  if own then
    redis.call('HSET', key, '@idle', own)
  end
  if removes > 0 then
    call_in_parts('HDEL', key, first_remove, first_increment - 1)
    if not has_fields(key) then
      redis.call('UNLINK', key)
      return -2
    end
  end
  if kind == 'new' then
    return refresh(key, own)
  end
  local stored = redis.call('HMGET', key, '@idle', '@created', '@prepared')
  if stored[3] == '1' and kind ~= 'prepared' then
    -- The second half of its renewal is still to come: it must not undo this.
    redis.call('HSET', key, '@prepared', 2)
  end
  return refresh(key, stored[1], stored[2])
end

-- Makes a session. On an error nothing is left, and so nothing that has no end.
local function make(key, run, ...)
  local answer = attempt(run, key, ...)
  -- What is not there is not deleted: that counts as a write, and once a script has written, it is not refused any more
  -- because the memory is full.
  if type(answer) == 'table' and redis.call('EXISTS', key) == 1 then
    redis.call('UNLINK', key)
  end
  return answer
end
