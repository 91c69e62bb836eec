-- Put before every script. KEYS[1] is jobs:open, KEYS[2] is jobs:counts.
local OPEN, COUNTS = KEYS[1], KEYS[2]
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local ended = {}
local WORKER_LOST = '{"error":{"code":"worker_lost","message":"every attempt ended with its worker","rows":[]}}'

local function stamp(seconds)
  return string.format('%.6f', seconds)
end

-- The only place where an outcome is written. The caller has seen a status that is not an outcome.
local function end_job(key, id, status, outcome)
  redis.call('HSET', key, 'status', status, 'ended_at', stamp(now), 'outcome', outcome)
  redis.call('HDEL', key, 'rows')
  redis.call('EXPIRE', key, tonumber(redis.call('HGET', key, 'retention_seconds')))
  redis.call('ZREM', OPEN, id)
  redis.call('HINCRBY', COUNTS, status, 1)
  ended[#ended + 1] = id
end

local function is_open(status)
  return status == 'queued' or status == 'running'
end

-- Wakes those who wait for an outcome. They also poll: a message may be missed.
local function announce(channel)
  if #ended > 0 then
    redis.call('PUBLISH', channel, table.concat(ended, ' '))
  end
end
