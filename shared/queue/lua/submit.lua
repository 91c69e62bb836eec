-- Accepts jobs: record, idempotency key, places in jobs:open and in an index, what is kept for their owner, and the
-- entry for the workers, all or nothing.
-- KEYS: open, counts, queue, then per job: record, idempotency key (the record again for none)
-- ARGV: envelope, max_open, check_seconds, expiry_seconds, retention_seconds, max_attempts, most bytes of the outcomes of
--       open jobs, most open jobs of an owner, most bytes that are kept for an owner,
--       then per job: id, model, version, rows, single 0|1, fingerprint, owner ('' for none), trace ('' for none), bytes
--       of the outcome to come
-- Returns per job {created 0|1, id, fingerprint}; for a new job that must not be accepted the reason: false if too many
-- jobs are open, 'coming' if there is no memory for its outcome, 'owner_open' or 'owner_bytes' for a limit of the owner.
local QUEUE = KEYS[3]
local envelope, max_open, check_seconds, expiry_seconds, retention_seconds, max_attempts, coming_max, owner_open_max,
  owner_bytes_max = unpack(ARGV, 1, 9)
local next_check, expires_at = stamp(now + tonumber(check_seconds)), stamp(now + tonumber(expiry_seconds))
local n_jobs, n_open = (#KEYS - 3) / 2, redis.call('ZCARD', OPEN)
local room, accounts = tonumber(max_open) - n_open, {}

-- Returns an owner's account: the number of open jobs, the bytes that are kept, and the fields that count no more. These
-- are parts of time that are over and, if no job is open, what jobs left that ended without their accounts.
local function account_of(owner)
  if not accounts[owner] then
    local key, account = key_of('jobs:owner:' .. owner), {open = 0, bytes = 0, over = {}}
    local found = redis.pcall('HGETALL', key)
    for i = 1, #found, 2 do
      local field, amount = found[i], whole(found[i + 1]) or 0
      local is_over = amount >= 10 ^ COUNT_DIGITS
      if is_over then
        put_aside(key .. ' ' .. field, 'it is too large', found[i + 1])
      end
      is_over = is_over or field ~= 'open' and field ~= 'bytes' and ((whole(field) or 0) + 1) * KEPT_SECONDS < now
      if is_over or (n_open == 0 and not whole(field)) then
        account.over[#account.over + 1] = field
      elseif field == 'open' then
        account.open = amount
      else
        account.bytes = account.bytes + amount
      end
    end
    accounts[owner] = account
  end
  return accounts[owner]
end

-- Returns why an owner's job must not be accepted, or nil; if there is no reason, counts the job.
local function refusal(owner, bytes, coming)
  if coming > 0 then
    local others = (whole(redis.pcall('HMGET', RESULT_COUNTS, 'coming')[1]) or 0) + coming_change
    if others > 0 and others + coming > tonumber(coming_max) then
      return 'coming'
    end
  end
  if owner ~= '' then
    local account = account_of(owner)
    if account.open >= tonumber(owner_open_max) then
      return 'owner_open'
    elseif account.bytes + bytes > tonumber(owner_bytes_max) then
      return 'owner_bytes'
    end
    account.open, account.bytes = account.open + 1, account.bytes + bytes
  end
  coming_change = coming_change + coming
  charge(owner, 'open', 1)
  charge(owner, 'bytes', bytes)
end

-- Returns id and fingerprint of the job that an idempotency key names; false for a new key; nil and what the key holds
-- if that names no job. A job's record is kept for longer than its key.
local function job_named_by(key)
  local value = redis.pcall('GET', key)
  if not value then
    return false
  elseif type(value) == 'table' then
    return nil, ''
  end
  local id, fingerprint = string.match(value, '^([%w-]+) (%w+)$')
  if id and redis.call('EXISTS', key_of('job:') .. id) == 1 then
    return id, fingerprint
  end
  return nil, value
end

local answers, created, indexed = {}, 0, {}
for i = 1, n_jobs do
  local key, idempotency = group(KEYS, 3, 2, i)
  local id, model, version, rows, single, fingerprint, owner, trace, coming = group(ARGV, 9, 9, i)
  local named, with = false, nil
  if idempotency ~= key then
    named, with = job_named_by(idempotency)
  end
  if named then
    answers[i] = {named == id and 1 or 0, named, with}
  elseif redis.call('EXISTS', key) == 1 then
    -- This very call was executed before: its answer was lost, and the client's connection sent it again.
    answers[i] = {1, id, fingerprint}
  elseif created >= room then
    answers[i] = false
  else
    local charged = RECORD_BYTES + ENTRY_BYTES + (idempotency ~= key and KEY_BYTES or 0)
      + allocated(#rows + #trace + coming)
    local reason = refusal(owner, charged, tonumber(coming))
    answers[i] = reason or {1, id, fingerprint}
    if not reason then
      local optional = owner ~= '' and {'owner', owner, 'charged', charged} or {}
      if trace ~= '' then
        optional[#optional + 1], optional[#optional + 2] = 'trace', trace
      end
      if idempotency ~= key then
        optional[#optional + 1], optional[#optional + 2] = 'idempotency', idempotency
      end
      redis.call('HSET', key, 'status', 'queued', 'model', model, 'version', version, 'rows', rows, 'single', single,
        'attempt', '0', 'max_attempts', max_attempts, 'retention_seconds', retention_seconds, 'coming', coming,
        'accepted_at', NOW, 'published_at', NOW, 'expires_at', expires_at, unpack(optional))
      check_at(next_check, id)
      local of_owner = indexed[owner] or {}
      of_owner[#of_owner + 1], indexed[owner] = id, of_owner
      if with then
        put_aside(idempotency, 'it names no job', with)
      end
      if idempotency ~= key then
        redis.call('SET', idempotency, id .. ' ' .. fingerprint, 'EX', retention_seconds)
      end
      created = created + 1
    end
  end
end
if created > 0 then
  for owner, ids in pairs(indexed) do
    -- As long as the record of a job that ends late is kept.
    in_parts(ids, function(...) index_jobs('all', owner, expiry_seconds + retention_seconds, ...) end)
  end
  for owner, account in pairs(accounts) do
    in_parts(account.over, function(...) redis.call('HDEL', key_of('jobs:owner:' .. owner), ...) end)
  end
  settle()
  count(COUNTS, 'accepted', created)
  redis.call('LPUSH', QUEUE, envelope)
end
return answers
