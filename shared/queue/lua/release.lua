-- Ends the leases of jobs whose attempt is over without an outcome, and of the jobs that were claimed with them, so
-- that the reconciler looks after all of them within its next second.
-- KEYS: open, counts, then one record per job   ARGV: one id per job
local function release(key, id)
  if redis.call('HGET', key, 'status') == 'running' then
    redis.call('HSET', key, 'lease_until', '0')
    redis.call('ZADD', OPEN, NOW, id)
  end
end

for i, id in ipairs(ARGV) do
  local key = KEYS[2 + i]
  local prefix = string.sub(key, 1, -#id - 1)
  local claimed = redis.call('HGET', key, 'claimed')
  release(key, id)
  if claimed then
    redis.call('HDEL', key, 'claimed')
    for other in string.gmatch(claimed, '%S+') do
      release(prefix .. other, other)
    end
  end
end
