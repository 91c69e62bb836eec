-- Reads what a caller sees of a job, if it is the caller's own: nothing else is read before that is known.
-- KEYS: open, counts, record
-- ARGV: owner, most bytes of an outcome to read, then the names of the other fields
-- Returns the bytes of an outcome that has more, else 0, then the values of the fields and, unless it has more, of the
-- outcome; {} for another owner's job.
local key, owner, outcome_max = KEYS[3], ARGV[1], tonumber(ARGV[2])
if (read(key, 'owner') or '') ~= owner then
  return {}
end
local bytes = redis.call('HSTRLEN', key, 'outcome')
if bytes > outcome_max then
  return {bytes, read(key, unpack(ARGV, 3))}
end
ARGV[#ARGV + 1] = 'outcome'
return {0, read(key, unpack(ARGV, 3))}
