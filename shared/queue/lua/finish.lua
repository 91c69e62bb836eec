-- Writes outcomes; the first writer wins.
-- KEYS: open, counts, then one record per job
-- ARGV: channel, then per job: id, status, outcome (JSON), compute_seconds
-- Returns the time, then per job 1 if this call wrote the outcome, else 0.
local answers = {NOW}
for i = 1, #KEYS - 2 do
  local key, at = KEYS[2 + i], 4 * i - 3
  local id, status, outcome, compute_seconds = ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
  local job = redis.call('HMGET', key, 'status', 'retention_seconds')
  answers[i + 1] = 0
  if is_open(job[1]) then
    end_job(key, id, status, outcome, job[2], 'compute_seconds', compute_seconds)
    answers[i + 1] = 1
  end
end
settle(ARGV[1])
return answers
