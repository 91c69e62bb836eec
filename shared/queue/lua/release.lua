-- Ends the leases of jobs whose attempt is over without an outcome, and of the jobs that were claimed with them, so
-- that the reconciler looks after all of them within its next second.
-- KEYS: open, counts, then one record per job   ARGV: one id per job
local function release(key, id)
  local job, damage = read_job(key)
  if job and job.status == 'running' then
    redis.call('HSET', key, 'lease_until', '0')
    redis.pcall('ZADD', OPEN, NOW, id)
  elseif damage then
    examine_soon(id)
  end
end

-- Most bytes of the ids that a task can have claimed: its claimed rows have 64 KiB.
local CLAIMED_BYTES_MAX = 524288

write_though_full()
for i, id in ipairs(ARGV) do
  local key = KEYS[2 + i]
  local prefix = string.sub(key, 1, -#id - 1)
  local claimed = redis.pcall('HGET', key, 'claimed')
  release(key, id)
  if type(claimed) == 'string' then
    redis.call('HDEL', key, 'claimed')
    if #claimed > CLAIMED_BYTES_MAX then
      put_aside(key, 'its claimed is too long', claimed)
      claimed = ''
    end
    for other in string.gmatch(claimed, '%S+') do
      release(prefix .. other, other)
    end
  end
end
