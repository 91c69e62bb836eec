-- Writes outcomes; the first writer wins. A large outcome for which Redis has no memory makes room by dropping kept
-- results; if that is not enough, a small one takes its place.
-- KEYS: open, counts, then one record per job
-- ARGV: channel, then per job: id, status, outcome (JSON), compute_seconds, 1 if the model refused its rows, else 0
-- Returns the time, then per job 1 if this call wrote the outcome, 2 if it wrote that there is no room for it, else 0.
local NO_ROOM = '{"error":{"code":"result_too_large","message":"the queue has no memory for the answer: try again later, '
  .. 'or send fewer rows","rows":[]}}'
local channel, n_jobs = ARGV[1], #KEYS - 2
local answers, results, bytes = {NOW}, {}, 0
local rejected, is_full = 0, write_though_full()
for i = 1, n_jobs do
  local key = KEYS[2 + i]
  local id, status, outcome, compute_seconds, is_rejected = group(ARGV, 1, 5, i)
  local job, damage = read_job(key, 'retention_seconds')
  answers[i + 1] = 0
  if damage then
    examine_soon(id)
  elseif job and is_open(job.status) then
    answers[i + 1] = 1
    local kept_seconds = tonumber(job.retention_seconds)
    if is_full and #outcome >= RESULT_BYTES_MIN and drop_results(#outcome, kept_seconds) < #outcome then
      status, outcome, is_rejected, answers[i + 1] = 'failed', NO_ROOM, '0', 2
    end
    end_job(key, id, status, outcome, job.retention_seconds, 'compute_seconds', compute_seconds)
    if #outcome >= RESULT_BYTES_MIN then
      add_result(id, #outcome, kept_seconds)
    end
    rejected = rejected + tonumber(is_rejected)
  end
end
settle(channel)
if rejected > 0 then
  count(COUNTS, 'row_rejected', rejected)
end
return answers
