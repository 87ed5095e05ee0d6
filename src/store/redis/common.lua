-- Stands before each of the other scripts.
-- ARGV: 1 idle timeout, 2 absolute timeout (0: none), 3 refresh interval, all in milliseconds.
local LONGEST = 3153600000000 -- 100 years, as in config.rs

-- A hash, and not a key of another type under our prefix, which is not ours to touch.
local function is_session(key)
  return redis.call('TYPE', key).ok == 'hash'
end

local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- The full time to live and the idle timeout in milliseconds, or nil where the absolute end has come.
-- A session without a creation time is counted from now, which is kept where `stamp` says so.
local function time_to_live(key, stamp)
  local own = redis.call('HMGET', key, '@idle', '@created')
  local idle = own[1] and string.match(own[1], '^%d+$') and tonumber(own[1])
  if not (idle and idle >= 1 and idle <= LONGEST) then
    idle = tonumber(ARGV[1])
  end
  local full = math.floor(idle) + tonumber(ARGV[3])
  local absolute = tonumber(ARGV[2])
  if absolute > 0 then
    local time = now()
    local created = tonumber(own[2])
    if not (created and created >= 0 and created <= time) then
      created = time
      if stamp then
        redis.call('HSET', key, '@created', string.format('%.0f', time))
      end
    end
    full = math.min(full, created + absolute - time)
    if full < 1 then
      return nil
    end
  end
  return full, math.floor(idle)
end

-- Answers the time to live in milliseconds, -5 where the session's absolute end has come, or the server's refusal.
local function refresh(key)
  local full = time_to_live(key, true)
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
