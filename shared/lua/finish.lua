-- Writes outcomes; the first writer wins.
-- KEYS: open, counts, then one record per job
-- ARGV: channel, then per job: id, status, outcome (JSON), compute_seconds
-- Returns per job 1 if this call wrote the outcome, else 0.
local answers = {}
for i = 1, #KEYS - 2 do
  local key, at = KEYS[2 + i], 4 * i - 3
  local id, status, outcome, compute_seconds = ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
  answers[i] = 0
  if is_open(redis.call('HGET', key, 'status')) then
    redis.call('HSET', key, 'compute_seconds', compute_seconds)
    end_job(key, id, status, outcome)
    answers[i] = 1
  end
end
announce(ARGV[1])
return answers
