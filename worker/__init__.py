"""The process that computes: takes batches from the queue, predicts and answers. It knows nothing of HTTP."""
