-- Takes further entries from the end of a queue where its oldest are, and starts their jobs, all or nothing.
-- The caller has read the entries before. An entry that another worker has taken since is skipped. An entry with a job
-- that was attempted before stays, because such a job runs alone; so does an entry whose rows would exceed the limit;
-- and with either all entries behind it.
-- KEYS: open, counts, queue, record of the job that the caller's task came with (open again for none), then one record
--       per job
-- ARGV: channel, lease_seconds, most bytes of rows, then per entry, oldest first: entry, number of jobs, their ids
-- Returns {id, what start_job returns} per job that was started.
local QUEUE, FIRST_JOB = KEYS[3], KEYS[4]
local channel, lease_seconds, bytes_max = unpack(ARGV, 1, 3)
local lease_until, bytes_left = stamp(now + tonumber(lease_seconds)), tonumber(bytes_max)

-- Reads the jobs of an entry; returns them, the bytes of their rows, and whether none was attempted before.
local function read_jobs(first_key, n_jobs)
  local jobs, bytes, fresh = {}, 0, true
  for i = 1, n_jobs do
    local job, damage = read_startable(KEYS[first_key + i - 1])
    jobs[i] = {job, damage}
    if job then
      bytes = bytes + #(job.rows or '')
      fresh = fresh and (job.attempt or '0') == '0'
    end
  end
  return jobs, bytes, fresh
end

write_though_full()
local started, ids = {}, {}
local entry_at, first_key = 4, 5
while entry_at <= #ARGV do
  local entry, n_jobs = ARGV[entry_at], tonumber(ARGV[entry_at + 1])
  local first_id = entry_at + 2
  if redis.call('LINDEX', QUEUE, -1) == entry then
    local jobs, bytes, fresh = read_jobs(first_key, n_jobs)
    bytes_left = bytes_left - bytes
    if not fresh or bytes_left < 0 then
      break
    end
    redis.call('RPOP', QUEUE)
    for i = 1, n_jobs do
      local id = ARGV[first_id + i - 1]
      local answer = start_job(KEYS[first_key + i - 1], id, jobs[i][1], jobs[i][2], false, lease_until)
      if answer then
        started[#started + 1] = {id, answer}
        ids[#ids + 1] = id
      end
    end
  end
  entry_at, first_key = first_id + n_jobs, first_key + n_jobs
end
if FIRST_JOB ~= OPEN and #ids > 0 and redis.call('EXISTS', FIRST_JOB) == 1 then
  -- If the process dies, only the job that its task came with is known: the claimed jobs are found by that one.
  redis.call('HSET', FIRST_JOB, 'claimed', table.concat(ids, ' '))
end
settle(channel)
return started
