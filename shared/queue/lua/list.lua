-- Reads a page of an owner's jobs, the last one first.
-- KEYS: open, counts
-- ARGV: status of the index, owner, list of the index to begin with ('' for the present one) and number of its jobs that
--       are still to be read ('' for all), oldest time of acceptance, status and model that the jobs must have ('' for
--       any), most jobs to return, most jobs to read, of which OUTCOME_BYTES of an outcome count as one
-- Returns {list, number of its jobs that are still to be read}, or {} at the end; then per job its id and fields.
local index_status, owner, list, unread, since, status, model, limit, most = unpack(ARGV)
local name = key_of('jobs:index:' .. index_status .. ':' .. owner .. ':')
local first, present = math.floor(tonumber(since) / INDEX_SECONDS), math.floor(now / INDEX_SECONDS)
local jobs, record = {{}}, key_of('job:')
-- Bytes of the outcome of a failed job that take as much time as the record of a job.
local OUTCOME_BYTES = 1000
limit, most = tonumber(limit), tonumber(most)
list = math.min(tonumber(list) or present, present)

-- Returns the number of jobs in a list of the index; a key that is no list has none.
local function length_of(number_of_list)
  local length = redis.pcall('LLEN', name .. number_of_list)
  return type(length) == 'number' and length or 0
end

-- A cursor may name more jobs than the list has.
unread = math.min(tonumber(unread) or math.huge, length_of(list))

-- Adds a job that is wanted. A record that is no hash, or does not say when the job was accepted, is left out.
local function add_job(id)
  local key = record .. id
  local found = redis.pcall('HMGET', key, 'status', 'model', 'accepted_at')
  local accepted_at = seconds(found[3])
  if not found[1] or not accepted_at or (status ~= '' and found[1] ~= status) or (model ~= '' and found[2] ~= model)
    or accepted_at < tonumber(since) then
    return
  end
  local fields = redis.call('HMGET', key, 'status', 'model', 'version', 'attempt', 'accepted_at', 'started_at',
    'ended_at', 'compute_seconds', 'result_dropped')
  local outcome = found[1] == 'failed' and redis.call('HGET', key, 'outcome')
  if outcome then
    most = most - math.floor(#outcome / OUTCOME_BYTES)
    outcome = string.gsub(outcome, '"rows":%[[%d,]*%]', '"rows":[]')
  end
  fields[10] = outcome
  jobs[#jobs + 1] = {id, fields}
end

local function go_to_older_list()
  list, most = list - 1, most - 1
  unread = length_of(list)
end

while most > 0 and #jobs <= limit and (unread > 0 or list > first) do
  -- Counted from the oldest, because younger ones are added at the other end.
  local ids = unread > 0 and redis.pcall('LRANGE', name .. list, -unread, math.min(most, unread) - unread - 1) or {}
  for _, id in ipairs(ids) do
    unread, most = unread - 1, most - 1
    add_job(id)
    if #jobs > limit or most <= 0 then
      break
    end
  end
  if #ids == 0 then
    go_to_older_list()
  end
end
while most > 0 and unread == 0 and list > first do
  go_to_older_list()
end
if unread > 0 or list > first then
  jobs[1] = {list, unread}
end
return jobs
