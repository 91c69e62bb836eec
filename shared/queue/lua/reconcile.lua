-- Looks after one overdue job, and publishes it again if its worker is gone or its entry is lost.
-- The entry of a queued job is lost if the oldest entry of the queue, a first-in-first-out list, is younger than the
-- job's publication.
-- KEYS: open, counts, queue, record
-- ARGV: channel, id, envelope, check_seconds, grace_seconds
-- Returns what was done: gone, expired, worker_lost, waiting, republished.
local QUEUE, key = KEYS[3], KEYS[4]
local channel, id, envelope, check_seconds, grace_seconds = unpack(ARGV)
local next_check = stamp(now + tonumber(check_seconds))

local status, lease_until, expires_at, attempt, max_attempts, published_at, retention_seconds = read(key,
  'status', 'lease_until', 'expires_at', 'attempt', 'max_attempts', 'published_at', 'retention_seconds')
if not is_open(status) then
  redis.call('ZREM', OPEN, id)
  return 'gone'
end
if status == 'running' and tonumber(lease_until) > now then
  redis.call('ZADD', OPEN, lease_until, id)
  return 'waiting'
end
if tonumber(expires_at) <= now then
  end_job(key, id, 'expired', '{}', retention_seconds)
  settle(channel)
  return 'expired'
end
if status == 'running' and tonumber(attempt) >= tonumber(max_attempts) then
  end_job(key, id, 'failed', WORKER_LOST, retention_seconds)
  settle(channel)
  return 'worker_lost'
end
if status == 'queued' then
  local oldest = redis.call('LINDEX', QUEUE, -1)
  local readable, message = pcall(cjson.decode, oldest or '')
  local oldest_published_at = readable and type(message) == 'table' and type(message.headers) == 'table'
    and tonumber(message.headers.published_at)
  if oldest_published_at and oldest_published_at <= tonumber(published_at) + tonumber(grace_seconds) then
    redis.call('ZADD', OPEN, next_check, id)
    return 'waiting'
  end
end
redis.call('HSET', key, 'status', 'queued', 'published_at', NOW)
redis.call('ZADD', OPEN, next_check, id)
redis.call('LPUSH', QUEUE, envelope)
return 'republished'
