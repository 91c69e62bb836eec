-- Cancels a job that has no outcome yet, and forgets one that has: its record, its result and its idempotency key.
-- The counts stay. Indexes are not searched: there, an id without a record says nothing.
-- KEYS: open, counts, record   ARGV: channel, id, owner
-- Returns 'cancelled' or 'forgotten', or false for an id that is unknown or another owner's. An open job whose record is
-- damaged is left to the reconciler, as if it were unknown.
local key = KEYS[3]
local channel, id, owner = unpack(ARGV)
-- Memory of the id in the indexes, about: it stays there when the job is forgotten, as does an entry in the queue.
local PLACES_BYTES = 100
write_though_full()
local job, damage = read_job(key, 'retention_seconds', 'owner', 'idempotency', 'ended_at', 'kept', 'attempt')
if damage then
  examine_soon(id)
end
if not job or (job.owner or '') ~= owner then
  return false
end
if is_open(job.status) then
  end_job(key, id, 'cancelled', '{}', job.retention_seconds)
  settle(channel)
  return 'cancelled'
end
local bytes = redis.call('HSTRLEN', key, 'outcome')
redis.call('DEL', key)
uncount({id .. ' ' .. bytes})
local change = PLACES_BYTES + entry_bytes(job.attempt) - charged_ended(key, job.kept, bytes)
charge_ended(job.owner, job.ended_at, job.retention_seconds, change)
settle_accounts()
-- The key may have aged out, and name a later job since.
local named = job.idempotency and redis.pcall('GET', job.idempotency)
if type(named) == 'string' and string.match(named, '%S+') == id then
  redis.call('DEL', job.idempotency)
end
return 'forgotten'
