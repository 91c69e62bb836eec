-- Put before every script. Holds the time, and what the transitions of jobs have in common.
-- KEYS[1] is jobs:open, KEYS[2] is jobs:counts.
local OPEN, COUNTS = KEYS[1], KEYS[2]
local WORKER_LOST = '{"error":{"code":"worker_lost","message":"every attempt ended with its worker","rows":[]}}'
-- Most arguments of one command, because Lua's stack is limited.
local ARGUMENTS_MAX = 1000

-- Seconds of acceptances, or of outcomes, in one list of an index.
local INDEX_SECONDS = 3600

local function stamp(seconds)
  return string.format('%.6f', seconds)
end

local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local NOW = stamp(now)

-- Returns the i-th group of `size` values, after the first `before` ones.
local function group(values, before, size, i)
  local first = before + (i - 1) * size + 1
  return unpack(values, first, first + size - 1)
end

-- Returns these fields of a job's record; a field that the record lacks is false.
local function read(key, ...)
  return unpack(redis.call('HMGET', key, ...))
end

local function is_open(status)
  return status == 'queued' or status == 'running'
end

-- Returns one of the other keys of keys.py.
local function key_of(name)
  return string.sub(OPEN, 1, -#'jobs:open' - 1) .. name
end

-- Puts jobs of an owner into the present list of an index: that of all jobs, or of those with an outcome but succeeded.
local function index_jobs(status, owner, keep_seconds, ...)
  local list = key_of('jobs:index:' .. status .. ':' .. (owner or '') .. ':' .. math.floor(now / INDEX_SECONDS))
  if redis.call('LPUSH', list, ...) == select('#', ...) then
    redis.call('EXPIRE', list, math.ceil(INDEX_SECONDS + keep_seconds))
  end
end

-- Collected for settle(): the ids of the jobs that got their outcome, the number of them per status, and
-- time, id, time, id, … of the next checks by the reconciler.
local ended, ended_as, checks = {}, {}, {}

-- Writes an outcome; no other function does. The caller has checked that the job is open, and calls settle().
local function end_job(key, id, status, outcome, retention_seconds, ...)
  redis.call('HSET', key, 'status', status, 'ended_at', NOW, 'outcome', outcome, ...)
  redis.call('HDEL', key, 'rows', 'claimed')
  redis.call('EXPIRE', key, retention_seconds)
  ended[#ended + 1] = id
  ended_as[status] = (ended_as[status] or 0) + 1
  if status ~= 'succeeded' then
    index_jobs(status, redis.call('HGET', key, 'owner'), retention_seconds, id)
  end
end

-- Sets the time of a job's next check by the reconciler. The caller calls settle().
local function check_at(seconds, id)
  checks[#checks + 1], checks[#checks + 2] = seconds, id
end

local function in_parts(arguments, call)
  for first = 1, #arguments, ARGUMENTS_MAX do
    call(unpack(arguments, first, math.min(first + ARGUMENTS_MAX - 1, #arguments)))
  end
end

-- Writes what was collected for all jobs of the call: their places in jobs:open and the counts; and wakes the callers
-- that wait for an outcome. They also poll, because a message may be missed.
local function settle(channel)
  in_parts(checks, function(...) redis.call('ZADD', OPEN, ...) end)
  if #ended > 0 then
    in_parts(ended, function(...) redis.call('ZREM', OPEN, ...) end)
    for status, jobs in pairs(ended_as) do
      redis.call('HINCRBY', COUNTS, status, jobs)
    end
    redis.call('PUBLISH', channel, table.concat(ended, ' '))
  end
end

-- Returns the fields of a job's record that start_job needs, the number of attempts and the rows first.
local function read_startable(key)
  return redis.call('HMGET', key, 'attempt', 'rows', 'status', 'lease_until', 'expires_at', 'max_attempts',
    'retention_seconds', 'model', 'version', 'accepted_at', 'trace')
end

-- Starts an attempt of a job if it may run now: if it is queued, or runs under a lease that is over, or runs and its
-- entry was redelivered. `fields` is what read_startable returns.
-- Returns {model, version, rows, accepted_at, attempt, started_at, trace}, where trace is false for a job that is not
-- traced; or false if the job must not run. The caller calls settle().
local function start_job(key, id, fields, redelivered, lease_until)
  local attempts, rows, status, old_lease_until, expires_at, max_attempts, retention_seconds, model, version,
    accepted_at, trace = unpack(fields)
  local lease_over = status == 'running' and (redelivered or tonumber(old_lease_until or '0') <= now)
  if status ~= 'queued' and not lease_over then
    return false
  end
  local attempt = tonumber(attempts) + 1
  if tonumber(expires_at) <= now then
    end_job(key, id, 'expired', '{}', retention_seconds)
    return false
  end
  if attempt > tonumber(max_attempts) then
    end_job(key, id, 'failed', WORKER_LOST, retention_seconds)
    return false
  end
  if attempt > 1 then
    -- The jobs that were claimed with it and have not ended run on their own from now on.
    redis.call('HDEL', key, 'claimed')
  end
  redis.call('HSET', key, 'status', 'running', 'attempt', attempt, 'started_at', NOW, 'lease_until', lease_until)
  check_at(lease_until, id)
  return {model, version, rows, accepted_at, attempt, NOW, trace}
end
