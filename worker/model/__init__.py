"""Models in memory: loading, checking, converting rows, predicting."""
