"""The queue: messages, keys, the transitions of a job, and the broker's clock."""
