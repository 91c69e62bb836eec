-- Cancels a job that has no outcome yet, and forgets one that has: its record, its result and its idempotency key.
-- The counts stay. Indexes are not searched: there, an id without a record says nothing.
-- KEYS: open, counts, record   ARGV: channel, id, owner
-- Returns 'cancelled' or 'forgotten', or false for an id that is unknown or another owner's.
local key = KEYS[3]
local channel, id, owner = unpack(ARGV)
local status, retention_seconds, owner_of_job, idempotency = read(key,
  'status', 'retention_seconds', 'owner', 'idempotency')
if not status or (owner_of_job or '') ~= owner then
  return false
end
if is_open(status) then
  end_job(key, id, 'cancelled', '{}', retention_seconds)
  settle(channel)
  return 'cancelled'
end
local bytes = redis.call('HSTRLEN', key, 'outcome')
redis.call('DEL', key)
uncount({id .. ' ' .. bytes})
-- The key may have aged out, and name a later job since.
if idempotency and string.match(redis.call('GET', idempotency) or '', '%S+') == id then
  redis.call('DEL', idempotency)
end
return 'forgotten'
