-- Accepts jobs: record, idempotency key, places in jobs:open and in an index, and the entry for the workers, all or
-- nothing.
-- KEYS: open, counts, queue, then per job: record, idempotency key (the record again for none)
-- ARGV: envelope, max_open, check_seconds, expiry_seconds, retention_seconds, max_attempts,
--       then per job: id, model, version, rows, single 0|1, fingerprint, owner ('' for none), trace ('' for none)
-- Returns per job {created 0|1, id, fingerprint}, or false for a new job that would be one too many.
local QUEUE = KEYS[3]
local envelope, max_open, check_seconds, expiry_seconds, retention_seconds, max_attempts = unpack(ARGV, 1, 6)
local next_check, expires_at = stamp(now + tonumber(check_seconds)), stamp(now + tonumber(expiry_seconds))
local n_jobs, room = (#KEYS - 3) / 2, tonumber(max_open) - redis.call('ZCARD', OPEN)

local answers, created, indexed = {}, 0, {}
for i = 1, n_jobs do
  local key, idempotency = group(KEYS, 3, 2, i)
  local id, model, version, rows, single, fingerprint, owner, trace = group(ARGV, 6, 8, i)
  local earlier = idempotency ~= key and redis.call('GET', idempotency)
  if earlier then
    local earlier_id, earlier_fingerprint = string.match(earlier, '(%S+) (%S+)')
    answers[i] = {earlier_id == id and 1 or 0, earlier_id, earlier_fingerprint}
  elseif redis.call('EXISTS', key) == 1 then
    -- This very call was executed before: its answer was lost, and the client's connection sent it again.
    answers[i] = {1, id, fingerprint}
  elseif created >= room then
    answers[i] = false
  else
    local optional = owner ~= '' and {'owner', owner} or {}
    if trace ~= '' then
      optional[#optional + 1], optional[#optional + 2] = 'trace', trace
    end
    if idempotency ~= key then
      optional[#optional + 1], optional[#optional + 2] = 'idempotency', idempotency
    end
    redis.call('HSET', key, 'status', 'queued', 'model', model, 'version', version, 'rows', rows, 'single', single,
      'attempt', '0', 'max_attempts', max_attempts, 'retention_seconds', retention_seconds,
      'accepted_at', NOW, 'published_at', NOW, 'expires_at', expires_at, unpack(optional))
    check_at(next_check, id)
    local of_owner = indexed[owner] or {}
    of_owner[#of_owner + 1], indexed[owner] = id, of_owner
    if idempotency ~= key then
      redis.call('SET', idempotency, id .. ' ' .. fingerprint, 'EX', retention_seconds)
    end
    created = created + 1
    answers[i] = {1, id, fingerprint}
  end
end
if created > 0 then
  for owner, ids in pairs(indexed) do
    -- As long as the record of a job that ends late is kept.
    in_parts(ids, function(...) index_jobs('all', owner, expiry_seconds + retention_seconds, ...) end)
  end
  settle()
  redis.call('HINCRBY', COUNTS, 'accepted', created)
  redis.call('LPUSH', QUEUE, envelope)
end
return answers
