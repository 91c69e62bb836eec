-- Starts an attempt for each job that may run now: queued, or running under a lease that is over.
-- A redelivered message proves that the earlier attempt is over too: it comes back after the hard time limit, or
-- from a worker that stopped.
-- KEYS: open, counts, then one record per job
-- ARGV: channel, lease_seconds, redelivered 0|1, then one id per job
-- Returns per job what start_job returns, or false where there is nothing to do.
local lease_until, redelivered = stamp(now + tonumber(ARGV[2])), ARGV[3] == '1'
local answers = {}
for i = 1, #KEYS - 2 do
  local key = KEYS[2 + i]
  answers[i] = start_job(key, ARGV[3 + i], redis.call('HMGET', key, unpack(STARTING)), redelivered, lease_until)
end
settle(ARGV[1])
return answers
