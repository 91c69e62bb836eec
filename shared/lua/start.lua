-- Starts an attempt for each job that may run now: queued, or running under a lease that is over.
-- A redelivered message proves that the earlier attempt is over too: it comes back after the hard time limit, or
-- from a worker that stopped.
-- KEYS: open, counts, then one record per job
-- ARGV: channel, lease_seconds, redelivered 0|1, then one id per job
-- Returns per job {model, version, rows, accepted_at, attempt}, or false where there is nothing to do.
local channel, lease_seconds, redelivered = ARGV[1], tonumber(ARGV[2]), ARGV[3] == '1'
local answers = {}
for i = 1, #KEYS - 2 do
  local key, id = KEYS[2 + i], ARGV[3 + i]
  local job = redis.call('HMGET', key, 'status', 'lease_until', 'expires_at', 'attempt', 'max_attempts',
    'model', 'version', 'rows', 'accepted_at')
  local status, lease_until = job[1], tonumber(job[2] or '0')
  answers[i] = false
  if status == 'queued' or (status == 'running' and (redelivered or lease_until <= now)) then
    local attempt = tonumber(job[4]) + 1
    if tonumber(job[3]) <= now then
      end_job(key, id, 'expired', '{}')
    elseif attempt > tonumber(job[5]) then
      end_job(key, id, 'failed', WORKER_LOST)
    else
      redis.call('HSET', key, 'status', 'running', 'attempt', attempt, 'started_at', stamp(now),
        'lease_until', stamp(now + lease_seconds))
      redis.call('ZADD', OPEN, stamp(now + lease_seconds), id)
      answers[i] = {job[6], job[7], job[8], job[9], attempt}
    end
  end
end
announce(channel)
return answers
