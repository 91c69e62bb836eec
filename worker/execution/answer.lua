-- Writes the reply to a batch, lets go of the batch, and takes the next one, in one step: an entry that has left the
-- queue is held until its reply is written. May run twice, as when its answer was lost on the way.
-- KEYS: reply stream, entries held by this child, queue to take from, the worker's other queues
-- ARGV: reply (empty: none to write), most replies kept, seconds until the stream goes, delivery tag of the batch if it
--       is among those held, seconds until held entries go, 1 if the child may take another one (2: and does so itself)
-- Returns the next entry; 1 if the queue is empty, so that the child may wait for one; 0 if others come first.
local replies, held, queue = KEYS[1], KEYS[2], KEYS[3]
local reply, kept, reply_seconds, tag, held_seconds, may_take = unpack(ARGV)
if reply ~= '' then
  redis.call('XADD', replies, 'MAXLEN', '~', kept, '*', 'reply', reply)
  redis.call('EXPIRE', replies, reply_seconds)
end
local entry = redis.pcall('LINDEX', held, 0)
if type(entry) == 'table' then
  -- Another program has put something in its place.
  return 0
end
if entry and tag ~= '' and string.find(entry, tag, 1, true) then
  redis.call('LPOP', held)
  entry = redis.call('LINDEX', held, 0)
end
if not entry and may_take ~= '0' then
  for other = 4, #KEYS do
    if redis.call('EXISTS', KEYS[other]) == 1 then
      return 0
    end
  end
  entry = may_take == '1' and redis.call('LMOVE', queue, held, 'RIGHT', 'LEFT')
  if not entry then
    return 1
  end
end
if not entry then
  return 0
end
redis.call('EXPIRE', held, held_seconds)
return entry
