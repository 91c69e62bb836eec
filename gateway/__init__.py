"""The process that callers talk to: validates, enqueues, waits, answers. Never imports an ML library."""
