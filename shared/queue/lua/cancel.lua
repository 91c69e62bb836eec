-- Cancels a job that has no outcome yet.
-- KEYS: open, counts, record   ARGV: channel, id, owner
-- Returns the status after the call, or false for an id that is unknown or another owner's.
local key = KEYS[3]
local job = redis.call('HMGET', key, 'status', 'retention_seconds', 'owner')
if (job[3] or '') ~= ARGV[3] then
  return false
end
if is_open(job[1]) then
  end_job(key, ARGV[2], 'cancelled', '{}', job[2])
  settle(ARGV[1])
  return 'cancelled'
end
return job[1]
