-- Ends the leases of jobs whose attempt is over without an outcome, so that the reconciler takes them up at its next look.
-- KEYS: open, counts, then one record per job   ARGV: one id per job
for i = 1, #KEYS - 2 do
  if redis.call('HGET', KEYS[2 + i], 'status') == 'running' then
    redis.call('HSET', KEYS[2 + i], 'lease_until', '0')
    redis.call('ZADD', OPEN, NOW, ARGV[i])
  end
end
