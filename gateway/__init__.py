"""The process that callers talk to: it validates, enqueues, waits and answers. It never imports an ML library."""
