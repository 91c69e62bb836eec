-- Put before every script. KEYS[1] is jobs:open, KEYS[2] is jobs:counts.
local OPEN, COUNTS = KEYS[1], KEYS[2]
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local WORKER_LOST = '{"error":{"code":"worker_lost","message":"every attempt ended with its worker","rows":[]}}'
-- Arguments of one command at most; Lua's stack is not endless.
local MANY = 1000

local function stamp(seconds)
  return string.format('%.6f', seconds)
end
local NOW = stamp(now)

-- Ids that got their outcome, how many of each status, and score, id, score, id of those that are looked at later.
local ended, ended_as, checks = {}, {}, {}

-- The only place where an outcome is written. The caller has seen a status that is not an outcome, and calls settle().
local function end_job(key, id, status, outcome, retention_seconds, ...)
  redis.call('HSET', key, 'status', status, 'ended_at', NOW, 'outcome', outcome, ...)
  redis.call('HDEL', key, 'rows', 'claimed')
  redis.call('EXPIRE', key, retention_seconds)
  ended[#ended + 1] = id
  ended_as[status] = (ended_as[status] or 0) + 1
end

-- The caller calls settle().
local function check_at(seconds, id)
  checks[#checks + 1], checks[#checks + 2] = seconds, id
end

local function is_open(status)
  return status == 'queued' or status == 'running'
end

local function in_parts(arguments, call)
  for from = 1, #arguments, MANY do
    call(unpack(arguments, from, math.min(from + MANY - 1, #arguments)))
  end
end

-- What concerns all jobs of a call: their places in jobs:open, the counts, and the wake-up of those who wait for an
-- outcome. They also poll: a message may be missed.
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

-- Starts an attempt if the job may run now; returns {model, version, rows, accepted_at, attempt, started_at, trace},
-- the last one only of a job that is traced, or false.
local STARTING = {'status', 'lease_until', 'expires_at', 'attempt', 'max_attempts', 'retention_seconds',
  'model', 'version', 'rows', 'accepted_at', 'trace'}
local function start_job(key, id, job, redelivered, lease_until)
  local status = job[1]
  if status ~= 'queued' and not (status == 'running' and (redelivered or tonumber(job[2] or '0') <= now)) then
    return false
  end
  local attempt = tonumber(job[4]) + 1
  if tonumber(job[3]) <= now then
    end_job(key, id, 'expired', '{}', job[6])
    return false
  end
  if attempt > tonumber(job[5]) then
    end_job(key, id, 'failed', WORKER_LOST, job[6])
    return false
  end
  if attempt > 1 then
    -- Those run on their own now, if they have not ended.
    redis.call('HDEL', key, 'claimed')
  end
  redis.call('HSET', key, 'status', 'running', 'attempt', attempt, 'started_at', NOW, 'lease_until', lease_until)
  check_at(lease_until, id)
  return {job[7], job[8], job[9], job[10], attempt, NOW, job[11]}
end
