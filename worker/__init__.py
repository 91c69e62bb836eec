"""The process that computes: takes batches from the queue, predicts, answers. Knows nothing of HTTP."""
