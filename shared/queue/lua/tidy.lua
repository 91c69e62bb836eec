-- Drops kept results that are too many, keeps the sums by which memory is foreseen, and mends damaged counts.
-- KEYS: open, counts, then all queues
-- ARGV: most bytes of kept results, retention_seconds, most results of this call, bytes that Redis can hold
-- Returns 1 if there is more to do, else 0.
local bytes_max, retention_seconds, most, memory_bytes = unpack(ARGV)
-- Most results that are counted anew in one call: a few milliseconds.
local RECOUNTED_AT_ONCE = 10000
local KEPT = key_of('jobs:kept')
local TYPES = {['jobs:counts'] = 'hash', ['jobs:kept'] = 'hash', ['jobs:results'] = 'zset',
  ['jobs:results:counts'] = 'hash', ['jobs:damaged'] = 'list', ['dead_letters'] = 'list', ['workers'] = 'hash',
  ['workers:counts'] = 'hash', ['children'] = 'hash'}

-- Deletes keys of a wrong type: whatever is written to them fails. Returns true if there was one.
local function mend_types()
  local types, is_wrong = {[OPEN] = 'zset'}, false
  for name, type_ in pairs(TYPES) do
    types[key_of(name)] = type_
  end
  for i = 3, #KEYS do
    types[KEYS[i]] = 'list'
  end
  for key, type_ in pairs(types) do
    local found = redis.call('TYPE', key).ok
    if found ~= 'none' and found ~= type_ then
      discard(key, 'it is no ' .. type_)
      is_wrong = true
    end
  end
  return is_wrong
end

-- Puts a count aside that is no number, or greater than it can be; returns the number, and false if it was put aside.
local function checked(key, field, greatest)
  local value = redis.call('HGET', key, field)
  local number = whole(value)
  if not value or number and number <= (greatest or number) then
    return number or 0, true
  end
  put_aside(key .. ' ' .. field, 'it is no count', value)
  redis.call('HDEL', key, field)
  return 0, false
end

-- Works out a damaged count of jobs from the others: accepted = ended + open. Of several, the others begin at 0.
local function mend_job_counts()
  local accepted = checked(COUNTS, 'accepted')
  local n_open, n_ended, damaged = redis.call('ZCARD', OPEN), 0, nil
  for _, outcome in ipairs({'succeeded', 'failed', 'cancelled', 'expired'}) do
    local jobs, sound = checked(COUNTS, outcome)
    n_ended = n_ended + jobs
    if not sound then
      damaged = outcome
    end
  end
  if redis.call('HEXISTS', COUNTS, 'accepted') == 0 and n_ended + n_open > 0 then
    redis.call('HSET', COUNTS, 'accepted', n_ended + n_open)
  elseif damaged then
    redis.call('HSET', COUNTS, damaged, math.max(0, accepted - n_ended - n_open))
    n_ended = math.max(n_ended, accepted - n_open)
  end
  checked(COUNTS, 'row_rejected')
  checked(key_of('workers:counts'), 'stalled')
  return n_ended
end

-- Returns the bytes of all kept results.
local function recounted()
  local sum = 0
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', RESULTS, '-inf', '+inf')) do
    local _, bytes = parts_of(member)
    sum = sum + bytes
  end
  return sum
end

-- Counts the bytes of the kept results anew if their sum is damaged; also, if that is quick, before results are dropped
-- over it. Without open jobs there are no outcomes to come.
local function mend_result_counts()
  checked(RESULT_COUNTS, 'dropped')
  local bytes, sound = checked(RESULT_COUNTS, 'bytes', tonumber(memory_bytes))
  local is_over = bytes > tonumber(bytes_max) and redis.call('ZCARD', RESULTS) <= RECOUNTED_AT_ONCE
  if not sound or is_over then
    local sum = recounted()
    if sound and sum ~= bytes then
      put_aside(RESULT_COUNTS .. ' bytes', 'it is not the sum of the results', bytes)
    end
    redis.call('HSET', RESULT_COUNTS, 'bytes', sum)
  end
  local coming = checked(RESULT_COUNTS, 'coming', 2 * memory_bytes)
  if coming > 0 and redis.call('ZCARD', OPEN) == 0 then
    redis.call('HDEL', RESULT_COUNTS, 'coming')
  end
end

-- Notes in which part of the time the records of the jobs go that have ended since the last call.
local function note_kept(n_ended)
  for _, goes_in in ipairs(redis.call('HKEYS', KEPT)) do
    local part, value = whole(goes_in), redis.call('HGET', KEPT, goes_in)
    local is_part = part and part * KEPT_SECONDS < now + 1e9 and #value <= COUNT_DIGITS and string.match(value, '^-?%d+$')
    if goes_in == 'counted' then
      checked(KEPT, goes_in)
    elseif not is_part then
      put_aside(KEPT .. ' ' .. goes_in, 'it is no count', value)
      redis.call('HDEL', KEPT, goes_in)
    elseif (part + 1) * KEPT_SECONDS < now then
      redis.call('HDEL', KEPT, goes_in)
    end
  end
  local n_new = n_ended - (whole(redis.call('HGET', KEPT, 'counted')) or 0)
  if n_new ~= 0 then
    redis.call('HSET', KEPT, 'counted', n_ended)
    redis.call('HINCRBY', KEPT, part_of(now + retention_seconds), n_new)
  end
end

write_though_full()
if mend_types() then
  -- The next call finds the keys gone.
  return 0
end
local aged = redis.call('ZRANGEBYSCORE', RESULTS, '-inf', NOW, 'LIMIT', 0, most)
uncount(aged)
mend_result_counts()
drop_results(result_sums() - bytes_max, tonumber(retention_seconds))
note_kept(mend_job_counts())
settle_accounts()
local bytes, old_bytes_max = result_sums()
if old_bytes_max ~= tonumber(bytes_max) then
  redis.call('HSET', RESULT_COUNTS, 'bytes_max', bytes_max)
end
local too_many = bytes > tonumber(bytes_max) and redis.call('ZCARD', RESULTS) > 1
return (too_many or #aged == tonumber(most)) and 1 or 0
