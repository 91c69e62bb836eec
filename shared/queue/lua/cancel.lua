-- Cancels a job that has no outcome yet.
-- KEYS: open, counts, record   ARGV: channel, id, owner
-- Returns the status after the call, or false for an id that is unknown or another owner's.
local key = KEYS[3]
local channel, id, owner = unpack(ARGV)
local status, retention_seconds, owner_of_job = read(key, 'status', 'retention_seconds', 'owner')
if (owner_of_job or '') ~= owner then
  return false
end
if is_open(status) then
  end_job(key, id, 'cancelled', '{}', retention_seconds)
  settle(channel)
  return 'cancelled'
end
return status
