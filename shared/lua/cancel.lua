-- Cancels a job that has no outcome yet.
-- KEYS: open, counts, record   ARGV: channel, id
-- Returns the status after the call, or false for an unknown id.
local key = KEYS[3]
local status = redis.call('HGET', key, 'status')
if is_open(status) then
  end_job(key, ARGV[2], 'cancelled', '{}')
  announce(ARGV[1])
  return 'cancelled'
end
return status
