-- Looks after one overdue job, and publishes it again if its worker is gone or its entry is lost.
-- The entry of a queued job is lost if the oldest entry of the queue, a first-in-first-out list, is younger than the
-- job's publication.
-- KEYS: open, counts, queue, record
-- ARGV: channel, id, envelope, check_seconds, grace_seconds, lease_seconds, horizon_seconds
-- Returns what was done: gone, damaged, expired, worker_lost, waiting, republished.
local QUEUE, key = KEYS[3], KEYS[4]
local channel, id, envelope, check_seconds, grace_seconds, lease_seconds, horizon_seconds = unpack(ARGV)
local next_check = stamp(now + tonumber(check_seconds))
-- Retention of a job that does not say its own.
local DAMAGED_KEPT_SECONDS = 86400
local DAMAGED = '{"error":{"code":"job_damaged","message":"the record of the job was damaged","rows":[]}}'

-- Returns a number by which times are in the order of their events: one that is still to come was read before Redis'
-- clock was set back, so it is earlier than all others.
local function in_order(at)
  return at > now + tonumber(grace_seconds) and at - 1e12 or at
end

-- Ends an open job whose record is damaged: puts the record aside, and replaces what is unreadable.
local function end_damaged(reason)
  local found = redis.pcall('HGETALL', key)
  if found.err then
    discard(key, reason)
  else
    put_aside(key, reason, table.concat(found, '\n'))
  end
  local readable = {model = 'unknown', version = 'unknown', accepted_at = NOW, attempt = '0', single = '0',
    retention_seconds = DAMAGED_KEPT_SECONDS}
  for field, value in pairs(readable) do
    local kept = redis.call('HGET', key, field)
    if not kept or FORMS[field] and not FORMS[field](kept) then
      redis.call('HSET', key, field, value)
    end
  end
  redis.call('HDEL', key, 'started_at', 'trace')
  end_job(key, id, 'failed', DAMAGED, redis.call('HGET', key, 'retention_seconds'))
end

-- Takes an id out of jobs:open that has no open job. If its record was lost, and the counts lack its job, it has failed.
local function take_out()
  redis.call('ZREM', OPEN, id)
  local counts = redis.pcall('HMGET', COUNTS, 'accepted', 'succeeded', 'failed', 'cancelled', 'expired')
  local lacking = (whole(counts[1]) or 0) - redis.call('ZCARD', OPEN)
  for i = 2, 5 do
    lacking = lacking - (whole(counts[i]) or 0)
  end
  if lacking > 0 then
    put_aside(key, 'its record is gone', '')
    count(COUNTS, 'failed', 1)
  end
end

write_though_full()
local job, damage = read_job(key, 'lease_until', 'expires_at', 'attempt', 'max_attempts', 'published_at',
  'retention_seconds', 'model', 'version', 'accepted_at')
if job and is_open(job.status) and redis.call('HEXISTS', key, 'rows') == 0 then
  damage = 'it has no rows'
end
if damage then
  end_damaged(damage)
  settle(channel)
  return 'damaged'
end
if not job or not is_open(job.status) then
  take_out()
  return 'gone'
end
local lease_until = job.status == 'running' and tonumber(job.lease_until) or 0
if lease_until > now + tonumber(horizon_seconds) then
  -- Longer than any lease: Redis' clock was set back since.
  lease_until = now + tonumber(lease_seconds)
  redis.call('HSET', key, 'lease_until', stamp(lease_until))
end
if lease_until > now then
  redis.call('ZADD', OPEN, stamp(lease_until), id)
  return 'waiting'
end
if tonumber(job.expires_at) <= now then
  end_job(key, id, 'expired', '{}', job.retention_seconds)
  settle(channel)
  return 'expired'
end
if job.status == 'running' and tonumber(job.attempt) >= tonumber(job.max_attempts) then
  end_job(key, id, 'failed', WORKER_LOST, job.retention_seconds)
  settle(channel)
  return 'worker_lost'
end
if job.status == 'queued' then
  local oldest = redis.call('LINDEX', QUEUE, -1)
  local readable, message = pcall(cjson.decode, oldest or '')
  local oldest_published_at = readable and type(message) == 'table' and type(message.headers) == 'table'
    and tonumber(message.headers.published_at)
  if oldest_published_at
    and in_order(oldest_published_at) <= in_order(tonumber(job.published_at)) + tonumber(grace_seconds) then
    redis.call('ZADD', OPEN, next_check, id)
    return 'waiting'
  end
end
redis.call('HSET', key, 'status', 'queued', 'published_at', NOW)
redis.call('ZADD', OPEN, next_check, id)
redis.call('LPUSH', QUEUE, envelope)
return 'republished'
