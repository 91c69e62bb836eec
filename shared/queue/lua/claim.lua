-- Takes further messages from the end of a queue where its oldest are, and starts their jobs, all or nothing.
-- The caller has looked at them. What another has taken since is left out; a message of which a job was attempted
-- before stays, for such a job runs alone; so does what would be too much, and all behind it.
-- KEYS: open, counts, queue, record of the job that the task came with (open again for none), then one record per job
-- ARGV: channel, lease_seconds, most bytes of rows, then per message, oldest first: entry, number of jobs, their ids
-- Returns {id, what start_job returns} per job that was started.
local QUEUE, TASK = KEYS[3], KEYS[4]
local lease_until, bytes_left = stamp(now + tonumber(ARGV[2])), tonumber(ARGV[3])
local started, ids, key_at, at = {}, {}, 4, 4
while at <= #ARGV do
  local entry, n_jobs = ARGV[at], tonumber(ARGV[at + 1])
  if redis.call('LINDEX', QUEUE, -1) == entry then
    local jobs, fresh = {}, true
    for i = 1, n_jobs do
      jobs[i] = redis.call('HMGET', KEYS[key_at + i], unpack(STARTING))
      bytes_left = bytes_left - #(jobs[i][9] or '')
      fresh = fresh and (jobs[i][4] or '0') == '0'
    end
    if not fresh or bytes_left < 0 then
      break
    end
    redis.call('RPOP', QUEUE)
    for i = 1, n_jobs do
      local id = ARGV[at + 1 + i]
      local answer = start_job(KEYS[key_at + i], id, jobs[i], false, lease_until)
      if answer then
        started[#started + 1] = {id, answer}
        ids[#ids + 1] = id
      end
    end
  end
  key_at, at = key_at + n_jobs, at + 2 + n_jobs
end
if TASK ~= OPEN and #ids > 0 then
  -- If the process dies, what is known of its task is the job that it came with: the others are found by it.
  redis.call('HSET', TASK, 'claimed', table.concat(ids, ' '))
end
settle(ARGV[1])
return started
