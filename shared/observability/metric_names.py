"""Names and bucket bounds of the metrics; the metric objects live in the process that counts."""

PREFIX = "inference_"

#: From half a millisecond (one answer through the queue of an idle machine) to the longest deadline.
LATENCY_BUCKETS_SECONDS = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip

#: A linear model on one row takes 50 microseconds; the soft time limit ends everything by 25 s.
COMPUTE_BUCKETS_SECONDS = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0,
)  # fmt: skip

#: Interactive rows wait milliseconds, bulk jobs may wait minutes.
QUEUE_WAIT_BUCKETS_SECONDS = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0,
)  # fmt: skip

#: Half is where a binary model says nothing; above nine tenths is where most models live.
CONFIDENCE_BUCKETS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)

#: Rows per batch, in powers of two up to the largest request.
BATCH_ROWS_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096, 16384)

UNKNOWN_MODEL = "unknown"
"""Label for names that the model store does not have: callers made them up."""

OTHER = "other"
"""Label for what is beyond a cap."""

MODELS_MAX = 100
"""Models that a process tells apart in its labels."""


class CappedLabel:
    """A label whose values come from a store that may hold any number of them."""

    def __init__(self, most: int = MODELS_MAX) -> None:
        self._most = most
        self._values: set[str] = set()

    def __call__(self, value: str) -> str:
        """The value itself if it is one of the first so many that were seen, else `other`."""
        if value not in self._values:
            if len(self._values) >= self._most:
                return OTHER
            self._values.add(value)
        return value
