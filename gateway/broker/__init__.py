"""Redis as the gateway uses it: batches out, replies in, workers and statistics."""
