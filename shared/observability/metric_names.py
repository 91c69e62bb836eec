"""Names and bucket bounds that gateway and worker share; each process defines the metrics that it counts."""

PREFIX = "inference_"

#: From half a millisecond (a prediction through the queue of an idle machine) to the longest deadline.
LATENCY_BUCKETS_SECONDS = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip

#: A linear model takes 50 microseconds for a row; the soft time limit ends every batch at 25 s.
COMPUTE_BUCKETS_SECONDS = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0,
)  # fmt: skip

#: Interactive rows wait for milliseconds, jobs may wait for minutes.
QUEUE_WAIT_BUCKETS_SECONDS = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0,
)  # fmt: skip

#: At 0.5 a binary model has no opinion; most predictions are above 0.9, where the bounds are closer.
CONFIDENCE_BUCKETS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)

#: Rows per batch, in powers of two up to the largest request.
BATCH_ROWS_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096, 16384)

UNKNOWN_MODEL = "unknown"
"""Label for all names that the model store does not have: callers can make up any number of them."""

OTHER = "other"
"""Label for all values above a cap."""

MODELS_MAX = 100
"""Number of models that a process tells apart in its labels."""


class CappedLabel:
    """Cap on the values of a label, for values from a store that may hold any number of them."""

    def __init__(self, values_max: int = MODELS_MAX) -> None:
        self._values_max = values_max
        self._values: set[str] = set()

    def __call__(self, value: str) -> str:
        """Return the value if it is among the first `values_max` that were seen, else `other`."""
        if value not in self._values:
            if len(self._values) >= self._values_max:
                return OTHER
            self._values.add(value)
        return value
