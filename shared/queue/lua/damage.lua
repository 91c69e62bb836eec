-- Put before every script, after the prelude. What others, or a fault, have damaged harms itself alone: it is put aside
-- for a gateway, which makes a dead letter of it, and the rest goes on.

-- Most values that are put aside until a gateway comes, and most bytes of one.
local ASIDE_MAX, ASIDE_BYTES = 100, 65536

local function put_aside(name, reason, content)
  local list = key_of('jobs:damaged')
  redis.pcall('LPUSH', list, name .. ': ' .. reason .. '\n' .. string.sub(content, 1, ASIDE_BYTES))
  redis.pcall('LTRIM', list, 0, ASIDE_MAX - 1)
end

-- Deletes a key of a wrong type. A worker may not, and a gateway does it later. What all share a gateway may not delete
-- either: an empty value that expires at once takes its place.
local function discard(key, reason)
  local content = redis.pcall('DUMP', key)
  if type(content) == 'string' then
    if redis.pcall('DEL', key) ~= 1 then
      redis.pcall('SET', key, '', 'PX', 1)
    end
    put_aside(key, reason, content)
  end
end

-- Returns the time of a text, in seconds; nil for anything that no script has written, such as 'nan' and '-1'.
local function seconds(text)
  local found = text and string.match(text, '^[%d.e+]+$') and tonumber(text)
  return found and found < 1e11 and found or nil
end

-- Returns the whole number of a text, nil for any other text. Greater ones could not be counted up.
local function whole(text)
  return text and #text <= 15 and string.match(text, '^%d+$') and tonumber(text) or nil
end

-- Returns the time of a retention, in whole seconds, up to thirty years; nil for any other text.
local function kept_for(text)
  local found = whole(text)
  return found and found >= 1 and found < 1e9 and found or nil
end

-- Changes a count that all share. One that is no number stays, until tidy has mended it.
local function count(key, field, change)
  redis.pcall('HINCRBY', key, field, change)
end

-- Changes a count of an owner, which begins anew if it was no number.
local function count_for_owner(owner, field, change)
  local key = key_of('jobs:owner:' .. owner)
  local counted = redis.pcall('HINCRBY', key, field, change)
  if type(counted) == 'number' then
    if counted < 0 and change < 0 then
      -- A record that was damaged has taken out too much. Until the jobs have ended that were open then, the count is
      -- too small by what they take out; left negative, it would be for ever.
      redis.call('HSET', key, field, 0)
    end
    return
  end
  local found = redis.pcall('HGET', key, field)
  if type(found) == 'string' then
    put_aside(key .. ' ' .. field, 'it is no count', found)
    redis.call('HSET', key, field, math.max(0, change))
  else
    discard(key, 'it is no hash')
  end
end

local STATUSES = {queued = true, running = true, succeeded = true, failed = true, cancelled = true, expired = true}

local function is_name(text)
  return text and string.match(text, '^[%w._-]+$')
end

-- The form of each field of an open job's record.
local FORMS = {
  attempt = whole, max_attempts = whole, retention_seconds = kept_for,
  accepted_at = seconds, published_at = seconds, expires_at = seconds, lease_until = seconds,
  model = is_name, version = is_name, rows = function(text) return text end,
}

-- Returns why a job can't have this status, or nil. Only end_job writes the time of the end, and settle then takes the
-- job out of jobs:open. An ended job that has lost that time is none of the open ones.
local function contradiction(key, status, ended_at)
  if is_open(status) then
    return ended_at and 'its status is that of an open job, but it has ended'
  end
  local id = string.sub(key, #key_of('job:') + 1)
  return not ended_at and type(redis.pcall('ZSCORE', OPEN, id)) == 'string'
    and 'its status is an outcome, but it has not ended'
end

-- Reads the status and these fields of a job's record. Returns them by name; nil without a record; nil and the reason
-- if the record is damaged. The fields of an ended job are not checked.
local function read_job(key, ...)
  local names, values = {...}, redis.pcall('HMGET', key, 'status', 'ended_at', ...)
  if values.err then
    return nil, 'it is no hash'
  end
  local job = {status = values[1]}
  if not STATUSES[job.status] then
    local exists = job.status or redis.call('EXISTS', key) == 1
    return nil, exists and 'its status is unknown'
  end
  local reason = contradiction(key, job.status, values[2])
  if reason then
    return nil, reason
  end
  for i, name in ipairs(names) do
    local value, is_sound = values[i + 2], FORMS[name]
    local needed = is_sound and is_open(job.status) and not (name == 'lease_until' and job.status == 'queued')
    if needed and not is_sound(value) then
      return nil, 'its ' .. name .. ' is unreadable'
    end
    job[name] = value
  end
  return job
end

-- Lets the reconciler examine a job within a second, if the job is open.
local function examine_soon(id)
  redis.pcall('ZADD', OPEN, 'XX', NOW, id)
end
