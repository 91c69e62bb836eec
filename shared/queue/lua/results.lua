-- Put before the scripts that add, drop or forget kept results: outcomes of many bytes, which have a limit of their own.
local RESULTS, RESULT_COUNTS = key_of('jobs:results'), key_of('jobs:results:counts')
-- Bytes from which an outcome counts as a kept result. To account for a smaller one would take as much memory.
local RESULT_BYTES_MIN = 1024
-- Most results that one call drops, because Redis does nothing else meanwhile.
local DROPPED_AT_ONCE = 100

-- Takes members out of jobs:results, and their bytes out of the sum.
local function uncount(members)
  local bytes = 0
  for _, member in ipairs(members) do
    if redis.call('ZREM', RESULTS, member) == 1 then
      bytes = bytes + tonumber(string.match(member, '%d+$'))
    end
  end
  if bytes > 0 then
    redis.call('HINCRBY', RESULT_COUNTS, 'bytes', -bytes)
  end
end

-- Drops the results that have the shortest time left until the others take at most `bytes_max`. The newest one stays.
-- A failed job keeps the error without the positions of its rows.
local function drop_results(bytes_max)
  local excess = tonumber(redis.call('HGET', RESULT_COUNTS, 'bytes') or '0') - bytes_max
  if excess <= 0 then
    return
  end
  local dropped = {}
  local oldest = redis.call('ZRANGEBYSCORE', RESULTS, '-inf', '+inf', 'LIMIT', 0, DROPPED_AT_ONCE + 1)
  for i = 1, #oldest - 1 do
    if excess <= 0 then
      break
    end
    dropped[i], excess = oldest[i], excess - tonumber(string.match(oldest[i], '%d+$'))
  end
  uncount(dropped)
  for _, member in ipairs(dropped) do
    local key = key_of('job:') .. string.match(member, '^(.*) ')
    local status = redis.call('HGET', key, 'status')
    if status == 'failed' then
      local outcome = string.gsub(redis.call('HGET', key, 'outcome'), '"rows":%[[%d,]*%]', '"rows":[]')
      redis.call('HSET', key, 'outcome', outcome, 'result_dropped', '1')
    elseif status then
      redis.call('HDEL', key, 'outcome')
      redis.call('HSET', key, 'result_dropped', '1')
    end
  end
  redis.call('HINCRBY', RESULT_COUNTS, 'dropped', #dropped)
end

-- Adds results: time at which the record goes, member, time, member, …
local function add_results(results, bytes)
  in_parts(results, function(...) redis.call('ZADD', RESULTS, ...) end)
  redis.call('HINCRBY', RESULT_COUNTS, 'bytes', bytes)
  drop_results(tonumber(redis.call('HGET', RESULT_COUNTS, 'bytes_max') or math.huge))
end
