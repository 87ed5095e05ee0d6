-- Stands before each of the other scripts.
-- ARGV: 1 idle timeout, 2 absolute timeout (0: none), 3 refresh interval, all in milliseconds.
local LONGEST = 3153600000000 -- 100 years, as in config.rs

-- Runs what may raise an error, and answers that.
local function attempt(run, ...)
  local done, answer = pcall(run, ...)
  if not done and type(answer) ~= 'table' then
    return redis.error_reply(answer)
  end
  return answer
end

-- An error's text in place of the error, which would be the answer to the whole script.
local function text_of(answer)
  return type(answer) == 'table' and answer.err or answer
end

-- Where there is nothing. A replica must not say so, since it may not have heard of the session yet: it refuses this,
-- which changes nothing.
local function is_absent(key)
  redis.call('UNLINK', key)
end

-- A hash, and not a key of another type under our prefix, which is not ours to touch.
local function is_session(key)
  local kind = redis.call('TYPE', key).ok
  if kind == 'none' then
    is_absent(key)
  end
  return kind == 'hash'
end

local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- The full time to live and the idle timeout in milliseconds, or nil where the absolute end has come. `own` and
-- `created` are the session's fields @idle and @created, if it has them.
-- A session without a creation time is counted from now, which is kept where `stamp` says so.
local function time_to_live(key, own, created, stamp)
  local idle = own and string.match(own, '^%d+$') and tonumber(own)
  if not (idle and idle >= 1 and idle <= LONGEST) then
    idle = tonumber(ARGV[1])
  end
  local full = math.floor(idle) + tonumber(ARGV[3])
  local absolute = tonumber(ARGV[2])
  if absolute > 0 then
    local time = now()
    created = tonumber(created)
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
