-- Looks after one overdue job. It is published again if its worker is gone or its message is lost.
-- A queued job's message is lost if the queue is a first-in-first-out list whose oldest entry is younger than the job.
-- KEYS: open, counts, queue, record
-- ARGV: channel, id, envelope, check_seconds, grace_seconds
-- Returns what was done: gone, expired, worker_lost, waiting, republished.
local QUEUE, key = KEYS[3], KEYS[4]
local channel, id, envelope = ARGV[1], ARGV[2], ARGV[3]
local check_seconds, grace_seconds = tonumber(ARGV[4]), tonumber(ARGV[5])

local job = redis.call('HMGET', key, 'status', 'lease_until', 'expires_at', 'attempt', 'max_attempts', 'published_at',
  'retention_seconds')
local status = job[1]
if not is_open(status) then
  redis.call('ZREM', OPEN, id)
  return 'gone'
end
if status == 'running' and tonumber(job[2]) > now then
  redis.call('ZADD', OPEN, job[2], id)
  return 'waiting'
end
if tonumber(job[3]) <= now then
  end_job(key, id, 'expired', '{}', job[7])
  settle(channel)
  return 'expired'
end
if status == 'running' and tonumber(job[4]) >= tonumber(job[5]) then
  end_job(key, id, 'failed', WORKER_LOST, job[7])
  settle(channel)
  return 'worker_lost'
end
if status == 'queued' then
  local oldest = redis.call('LINDEX', QUEUE, -1)
  local readable, message = pcall(cjson.decode, oldest or '')
  local published_at = readable and type(message) == 'table' and type(message.headers) == 'table'
    and tonumber(message.headers.published_at)
  if published_at and published_at <= tonumber(job[6]) + grace_seconds then
    redis.call('ZADD', OPEN, stamp(now + check_seconds), id)
    return 'waiting'
  end
end
redis.call('HSET', key, 'status', 'queued', 'published_at', NOW)
redis.call('ZADD', OPEN, stamp(now + check_seconds), id)
redis.call('LPUSH', QUEUE, envelope)
return 'republished'
