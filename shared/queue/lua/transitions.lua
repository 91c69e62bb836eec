-- Put before every script, after `damage`. Holds what starts and ends jobs, and what changes with every such step.

-- Puts jobs of an owner into the present list of an index: that of all jobs, or of those with an outcome but succeeded.
local function index_jobs(status, owner, keep_seconds, ...)
  local list = key_of('jobs:index:' .. status .. ':' .. (owner or '') .. ':' .. math.floor(now / INDEX_SECONDS))
  local length = redis.pcall('LPUSH', list, ...)
  if type(length) == 'table' then
    discard(list, 'it is no list')
    length = redis.pcall('LPUSH', list, ...)
  end
  local lasts = math.ceil(INDEX_SECONDS + keep_seconds)
  if length == select('#', ...) then
    redis.call('EXPIRE', list, lasts)
  elseif status ~= 'all' then
    -- The first of the list may be kept for a shorter time than the others.
    redis.call('EXPIRE', list, lasts, 'GT')
  end
end

-- Collected for settle(): the ids of the jobs that got their outcome, the number of them per status; time, id, time, id,
-- … of the next checks by the reconciler; the change of the bytes of outcomes to come, and per owner the changes of what
-- Redis keeps for the owner.
local ended, ended_as, checks, coming_change, owed = {}, {}, {}, 0, {}

-- Changes what is kept for an owner: `open` jobs, `bytes` of open jobs, or the bytes of the ended jobs whose records go
-- in a part of the time. Callers without an API key have no account.
local function charge(owner, field, change)
  if owner and owner ~= '' then
    local changes = owed[owner] or {}
    changes[field], owed[owner] = (changes[field] or 0) + change, changes
  end
end

-- Returns the part of the time in which a record goes.
local function part_of(goes_at)
  return string.format('%d', math.floor(goes_at / KEPT_SECONDS))
end

-- Changes what is kept for the owner of an ended job.
local function charge_ended(owner, ended_at, retention_seconds, change)
  local at, kept_seconds = seconds(ended_at), whole(retention_seconds)
  if at and kept_seconds then
    charge(owner, part_of(at + kept_seconds), change)
  end
end

-- What an earlier version has charged for a job, beside its rows and its outcome. Its records do not say it.
local EARLIER_BYTES = 1000

-- Returns the number of bytes that a field says; 0 if it is damaged.
local function bytes_of(key, name, text)
  local bytes = #text <= COMING_DIGITS and whole(text)
  if not bytes then
    put_aside(key, 'its ' .. name .. ' is unreadable', text)
  end
  return bytes or 0
end

-- Returns the bytes of the entry that an ended job leaves in the queue if it was never started.
local function entry_bytes(attempt)
  return attempt == '0' and ENTRY_BYTES or 0
end

-- Returns the bytes that an ended job was charged with, for an outcome of so many.
local function charged_ended(key, kept, outcome_bytes)
  if not kept then
    return EARLIER_BYTES + outcome_bytes
  end
  return bytes_of(key, 'kept', kept) + allocated(outcome_bytes)
end

-- Writes an outcome; no other function does. The caller has checked that the job is open, and calls settle().
local function end_job(key, id, status, outcome, retention_seconds, ...)
  local owner, coming, charged, with_key, attempt = read(key, 'owner', 'coming', 'charged', 'idempotency', 'attempt')
  local rows_bytes = owner and redis.call('HSTRLEN', key, 'rows') or 0
  redis.call('HDEL', key, 'rows', 'trace', 'claimed', 'coming', 'charged')
  redis.call('HSET', key, 'status', status, 'ended_at', NOW, 'outcome', outcome, ...)
  redis.call('EXPIRE', key, retention_seconds)
  ended[#ended + 1] = id
  ended_as[status] = (ended_as[status] or 0) + 1
  if status ~= 'succeeded' then
    index_jobs(status, owner, retention_seconds, id)
  end
  -- Jobs that an earlier version accepted have no account.
  if coming then
    coming = bytes_of(key, 'coming', coming)
    coming_change = coming_change - coming
    if owner then
      charge(owner, 'open', -1)
      charge(owner, 'bytes', charged and -bytes_of(key, 'charged', charged) or -EARLIER_BYTES - rows_bytes - coming)
      local kept = RECORD_BYTES + (with_key and KEY_BYTES or 0) + entry_bytes(attempt)
      redis.call('HSET', key, 'kept', kept)
      charge_ended(owner, NOW, retention_seconds, kept + allocated(#outcome))
    end
  end
end

-- Sets the time of a job's next check by the reconciler. The caller calls settle().
local function check_at(seconds, id)
  checks[#checks + 1], checks[#checks + 2] = seconds, id
end

-- Writes the changes of what is kept for the owners, and of the outcomes to come.
local function settle_accounts()
  if coming_change ~= 0 then
    count(RESULT_COUNTS, 'coming', coming_change)
  end
  for owner, changes in pairs(owed) do
    for field, change in pairs(changes) do
      count_for_owner(owner, field, change)
    end
  end
end

-- Writes what was collected for all jobs of the call: their places in jobs:open, the counts and the accounts; and wakes
-- the callers that wait for an outcome. They also poll, because a message may be missed. If jobs:open is of a wrong type,
-- jobs start and end all the same, until tidy has replaced it.
local function settle(channel)
  in_parts(checks, function(...) redis.pcall('ZADD', OPEN, ...) end)
  if #ended > 0 then
    in_parts(ended, function(...) redis.pcall('ZREM', OPEN, ...) end)
    for status, jobs in pairs(ended_as) do
      count(COUNTS, status, jobs)
    end
    redis.call('PUBLISH', channel, table.concat(ended, ' '))
  end
  settle_accounts()
end

-- Reads what start_job needs of a job's record; see read_job.
local function read_startable(key)
  return read_job(key, 'attempt', 'rows', 'lease_until', 'expires_at', 'max_attempts', 'retention_seconds', 'model',
    'version', 'accepted_at', 'trace')
end

-- Starts an attempt of a job if it may run now: if it is queued, or runs under a lease that is over, or runs and its
-- entry was redelivered. `job` and `damage` are what read_startable returns.
-- Returns {model, version, rows, accepted_at, attempt, started_at, trace}, where trace is false for a job that is not
-- traced; or false if the job must not run. The caller calls settle().
local function start_job(key, id, job, damage, redelivered, lease_until)
  if damage then
    examine_soon(id)
  end
  if not job then
    return false
  end
  local lease_over = job.status == 'running' and (redelivered or tonumber(job.lease_until) <= now)
  if job.status ~= 'queued' and not lease_over then
    return false
  end
  local attempt = tonumber(job.attempt) + 1
  if tonumber(job.expires_at) <= now then
    end_job(key, id, 'expired', '{}', job.retention_seconds)
    return false
  end
  if attempt > tonumber(job.max_attempts) then
    end_job(key, id, 'failed', WORKER_LOST, job.retention_seconds)
    return false
  end
  if attempt > 1 then
    -- The jobs that were claimed with it and have not ended run on their own from now on.
    redis.call('HDEL', key, 'claimed')
  end
  redis.call('HSET', key, 'status', 'running', 'attempt', attempt, 'started_at', NOW, 'lease_until', lease_until)
  check_at(lease_until, id)
  return {job.model, job.version, job.rows, job.accepted_at, attempt, NOW, job.trace}
end
