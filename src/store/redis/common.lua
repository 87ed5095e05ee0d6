-- Stands before each of the other scripts.
-- ARGV: 1 idle timeout, 2 absolute timeout (0: none), 3 refresh interval, all in milliseconds.
local LONGEST = 3153600000000 -- 100 years, as in config.rs
local IDLE, ABSOLUTE, INTERVAL = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])

-- An error's text in place of the error, which would be the answer to the whole script.
local function text_of(answer)
  return type(answer) == 'table' and answer.err or answer
end

-- The answer of a command that answers a number, where it was refused.
local function refusal(answer)
  return type(answer) == 'table' and answer or nil
end

-- What `answer_of` says for each of so many, or the text of the error that it raises or answers.
local function answers(count, answer_of)
  local all, at = {}, 0
  local function go_on()
    while at < count do
      at = at + 1
      all[at] = text_of(answer_of(at))
    end
  end
  -- Behind the one that is refused; to catch an error around each would cost more, and most of the time there is none.
  while at < count do
    local done, refusal = pcall(go_on)
    if not done then
      all[at] = text_of(refusal)
    end
  end
  return all
end

-- A whole number as Redis takes it. Each is written once, since most are the same.
local digits_of = {}
local function digits(number)
  local known = digits_of[number]
  if not known then
    known = string.format('%.0f', number)
    digits_of[number] = known
  end
  return known
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
-- A session without a creation time is counted from now, which is kept where `stamp` says so; third, what that was
-- refused.
local function time_to_live(key, own, created, stamp)
  local idle = IDLE
  if own and string.match(own, '^%d+$') then
    local number = tonumber(own)
    if number >= 1 and number <= LONGEST then
      idle = math.floor(number)
    end
  end
  local full, refused = idle + INTERVAL, nil
  if ABSOLUTE > 0 then
    local time = now()
    created = tonumber(created)
    if not (created and created >= 0 and created <= time) then
      created = time
      if stamp then
        refused = refusal(redis.pcall('HSET', key, '@created', digits(time)))
      end
    end
    full = math.min(full, created + ABSOLUTE - time)
    if full < 1 then
      return nil
    end
  end
  return full, idle, refused
end
