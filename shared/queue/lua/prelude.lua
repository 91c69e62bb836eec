-- Put before every script. Holds the time, and what the transitions of jobs have in common.
-- KEYS[1] is jobs:open, KEYS[2] is jobs:counts.
local OPEN, COUNTS = KEYS[1], KEYS[2]
local WORKER_LOST = '{"error":{"code":"worker_lost","message":"every attempt ended with its worker","rows":[]}}'
-- Most arguments of one command, because Lua's stack is limited.
local ARGUMENTS_MAX = 1000

-- Seconds of acceptances, or of outcomes, in one list of an index.
local INDEX_SECONDS = 3600
-- Seconds of the parts of time by which memory is foreseen.
local KEPT_SECONDS = 600
-- Most memory of a job beside its rows, its trace and its outcome: its record and its places in lists of ids; an
-- idempotency key; an entry in the queue. A record takes the most as a hash table, which it is for good once it had a
-- value of more than 256 bytes, or of 64 in a Redis with other settings than ours.
local RECORD_BYTES, KEY_BYTES, ENTRY_BYTES = 2000, 500, 1000
-- Most digits of the bytes of a job or an outcome to come, and of what is kept in a part of the time or for an owner.
local COMING_DIGITS, COUNT_DIGITS = 10, 12

local function stamp(seconds)
  return string.format('%.6f', seconds)
end

-- Returns the most memory that values of so many bytes take: it is allocated in steps of a quarter.
local function allocated(bytes)
  return math.ceil(1.25 * bytes)
end

local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local NOW = stamp(now)

-- Returns the i-th group of `size` values, after the first `before` ones.
local function group(values, before, size, i)
  local first = before + (i - 1) * size + 1
  return unpack(values, first, first + size - 1)
end

-- Returns these fields of a hash; a field that the hash lacks is false.
local function read(key, ...)
  return unpack(redis.call('HMGET', key, ...))
end

local function is_open(status)
  return status == 'queued' or status == 'running'
end

-- Returns one of the other keys of keys.py.
local function key_of(name)
  return string.sub(OPEN, 1, -#'jobs:open' - 1) .. name
end

local RESULT_COUNTS = key_of('jobs:results:counts')

local function in_parts(arguments, call)
  for first = 1, #arguments, ARGUMENTS_MAX do
    call(unpack(arguments, first, math.min(first + ARGUMENTS_MAX - 1, #arguments)))
  end
end

-- Redis at its maxmemory refuses the first write of a script if that could take memory, and no later one. The scripts
-- that move or end jobs call this first: they write little, and what they end makes room.
-- Returns true if Redis is at its maxmemory.
local function write_though_full()
  local refused = redis.pcall('ZADD', OPEN, 'XX', 0, '')
  redis.pcall('ZREM', OPEN, '')
  return type(refused) == 'table'
end
