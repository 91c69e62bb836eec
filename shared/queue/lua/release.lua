-- Ends the leases of jobs whose attempt is over without an outcome, so that the reconciler takes them up at its next look;
-- and of those that were claimed with them.
-- KEYS: open, counts, then one record per job   ARGV: one id per job
local function release(key, id)
  if redis.call('HGET', key, 'status') == 'running' then
    redis.call('HSET', key, 'lease_until', '0')
    redis.call('ZADD', OPEN, NOW, id)
  end
end
for i = 1, #KEYS - 2 do
  local key, id = KEYS[2 + i], ARGV[i]
  local before_id = string.sub(key, 1, -#id - 1)
  local claimed = redis.call('HGET', key, 'claimed')
  release(key, id)
  if claimed then
    redis.call('HDEL', key, 'claimed')
    for other in string.gmatch(claimed, '%S+') do
      release(before_id .. other, other)
    end
  end
end
