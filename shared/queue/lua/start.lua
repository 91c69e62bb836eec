-- Starts an attempt for each job that may run now: one that is queued, or that runs under a lease that is over.
-- A redelivered entry proves that the earlier attempt is over too: it comes back after the hard time limit, or from a
-- worker that stopped.
-- KEYS: open, counts, then one record per job
-- ARGV: channel, lease_seconds, redelivered 0|1, then one id per job
-- Returns per job what start_job returns.
local channel, lease_seconds, redelivered = unpack(ARGV, 1, 3)
local lease_until, n_jobs = stamp(now + tonumber(lease_seconds)), #KEYS - 2
local answers = {}
write_though_full()
for i = 1, n_jobs do
  local key, id = KEYS[2 + i], ARGV[3 + i]
  local job, damage = read_startable(key)
  answers[i] = start_job(key, id, job, damage, redelivered == '1', lease_until)
end
settle(channel)
return answers
