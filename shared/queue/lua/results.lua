-- Put before the scripts that add, drop or forget kept results: outcomes of many bytes, which have a limit of their own.
local RESULTS = key_of('jobs:results')
-- Bytes from which an outcome counts as a kept result. To account for a smaller one would take as much memory.
local RESULT_BYTES_MIN = 1024
-- Most results that one call drops, because Redis does nothing else meanwhile.
local DROPPED_AT_ONCE = 100
-- Seconds by which a clock may be set back unnoticed.
local SLACK_SECONDS = 60

-- Returns the job and the bytes of a member of jobs:results.
local function parts_of(member)
  local id, bytes = string.match(member, '^(.*) (%d+)$')
  return id, whole(bytes) or 0
end

-- Takes members out of jobs:results, and their bytes out of the sum.
local function uncount(members)
  local bytes = 0
  for _, member in ipairs(members) do
    if redis.pcall('ZREM', RESULTS, member) == 1 then
      local _, of_member = parts_of(member)
      bytes = bytes + of_member
    end
  end
  if bytes > 0 then
    count(RESULT_COUNTS, 'bytes', -bytes)
  end
end

-- Returns the members to drop first: of those that go after any that is added now, which were added before Redis' clock
-- was set back, else of all, the ones with the shortest time left. The newest result is none of them.
local function oldest_results(kept_seconds)
  local latest = '(' .. stamp(now + kept_seconds + SLACK_SECONDS)
  local found = {}
  for _, from in ipairs({latest, '-inf'}) do
    if #found == 0 then
      found = redis.pcall('ZRANGEBYSCORE', RESULTS, from, '+inf', 'LIMIT', 0, DROPPED_AT_ONCE + 1)
    end
  end
  if #found > DROPPED_AT_ONCE or #found == redis.pcall('ZCARD', RESULTS) then
    table.remove(found)
  end
  return found
end

-- Drops the result of a job. A failed job keeps the error without the positions of its rows.
local function drop_result(id, bytes)
  local key = key_of('job:') .. id
  local job = read_job(key, 'owner', 'ended_at', 'retention_seconds', 'kept')
  if not job then
    return
  end
  local left = 0
  if job.status == 'failed' then
    local outcome = string.gsub(redis.call('HGET', key, 'outcome') or '', '"rows":%[[%d,]*%]', '"rows":[]')
    redis.call('HSET', key, 'outcome', outcome, 'result_dropped', '1')
    left = #outcome
  else
    redis.call('HDEL', key, 'outcome')
    redis.call('HSET', key, 'result_dropped', '1')
  end
  local change = charged_ended(key, job.kept, left) - charged_ended(key, job.kept, bytes)
  charge_ended(job.owner, job.ended_at, job.retention_seconds, change)
end

-- Drops the oldest results until they had so many bytes, or there are no more; returns the bytes. The caller settles.
local function drop_results(excess, kept_seconds)
  local dropped, freed = {}, 0
  for _, member in ipairs(excess > 0 and oldest_results(kept_seconds) or {}) do
    local id, bytes = parts_of(member)
    dropped[#dropped + 1], freed = member, freed + bytes
    if id then
      drop_result(id, bytes)
    end
    if freed >= excess then
      break
    end
  end
  uncount(dropped)
  if #dropped > 0 then
    count(RESULT_COUNTS, 'dropped', #dropped)
  end
  return freed
end

-- Returns the counted bytes of all results, and the most that there may be.
local function result_sums()
  local found = redis.pcall('HMGET', RESULT_COUNTS, 'bytes', 'bytes_max')
  return whole(found[1]) or 0, whole(found[2]) or math.huge
end

-- Adds a result, and drops the oldest ones if there are too many.
local function add_result(id, bytes, kept_seconds)
  redis.pcall('ZADD', RESULTS, stamp(now + kept_seconds), id .. ' ' .. bytes)
  count(RESULT_COUNTS, 'bytes', bytes)
  local sum, bytes_max = result_sums()
  -- The sum may be damaged: no more goes than is needed for one result and as much again, and tidy drops the rest.
  drop_results(math.min(sum - bytes_max, 2 * bytes), kept_seconds)
end
