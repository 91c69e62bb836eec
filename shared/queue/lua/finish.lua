-- Writes outcomes; the first writer wins.
-- KEYS: open, counts, then one record per job
-- ARGV: channel, then per job: id, status, outcome (JSON), compute_seconds, 1 if the model refused its rows, else 0
-- Returns the time, then per job 1 if this call wrote the outcome, else 0.
local channel, n_jobs = ARGV[1], #KEYS - 2
local answers, results, bytes = {NOW}, {}, 0
local rejected = 0
for i = 1, n_jobs do
  local key = KEYS[2 + i]
  local id, status, outcome, compute_seconds, is_rejected = group(ARGV, 1, 5, i)
  local old_status, retention_seconds = read(key, 'status', 'retention_seconds')
  local open = is_open(old_status)
  if open then
    end_job(key, id, status, outcome, retention_seconds, 'compute_seconds', compute_seconds)
    if #outcome >= RESULT_BYTES_MIN then
      results[#results + 1], results[#results + 2] = stamp(now + retention_seconds), id .. ' ' .. #outcome
      bytes = bytes + #outcome
    end
    rejected = rejected + tonumber(is_rejected)
  end
  answers[i + 1] = open and 1 or 0
end
settle(channel)
if bytes > 0 then
  add_results(results, bytes)
end
if rejected > 0 then
  redis.call('HINCRBY', COUNTS, 'row_rejected', rejected)
end
return answers
