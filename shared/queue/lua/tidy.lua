-- Drops kept results that are too many, and keeps the sums by which memory is foreseen.
-- KEYS: open, counts   ARGV: most bytes of kept results, retention_seconds, most results of this call
-- Returns 1 if there is more to do, else 0.
local bytes_max, retention_seconds, most = unpack(ARGV)
local KEPT, KEPT_SECONDS = key_of('jobs:kept'), 600
local aged = redis.call('ZRANGEBYSCORE', RESULTS, '-inf', NOW, 'LIMIT', 0, most)
uncount(aged)
drop_results(tonumber(bytes_max))

local n_ended = 0
for _, jobs in ipairs({read(COUNTS, 'succeeded', 'failed', 'cancelled', 'expired')}) do
  n_ended = n_ended + tonumber(jobs or '0')
end
for _, goes_in in ipairs(redis.call('HKEYS', KEPT)) do
  if goes_in ~= 'counted' and (tonumber(goes_in) + 1) * KEPT_SECONDS < now then
    redis.call('HDEL', KEPT, goes_in)
  end
end
-- At maxmemory what follows is refused, and a later call does it.
local n_new = n_ended - tonumber(redis.call('HGET', KEPT, 'counted') or '0')
if n_new ~= 0 and type(redis.pcall('HSET', KEPT, 'counted', n_ended)) == 'number' then
  redis.call('HINCRBY', KEPT, math.floor((now + retention_seconds) / KEPT_SECONDS), n_new)
end
local bytes, old_bytes_max = read(RESULT_COUNTS, 'bytes', 'bytes_max')
if old_bytes_max ~= bytes_max then
  redis.pcall('HSET', RESULT_COUNTS, 'bytes_max', bytes_max)
end
local too_many = tonumber(bytes or '0') > tonumber(bytes_max) and redis.call('ZCARD', RESULTS) > 1
return (too_many or #aged == tonumber(most)) and 1 or 0
