"""The gateway's metrics: what callers asked, what they got, and how long it took them."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from shared import metrics as names
from shared.contract import Lane

OUTCOMES = ("ok", "invalid", "rejected", "failed", "timeout")
"""How a prediction request or a submission ended for its caller; a submission is `ok` when the job is accepted."""

REJECTIONS = ("broker_unavailable", "no_worker", "queue_full", "too_large")

UNKNOWN_MODEL = "unknown"
"""Label for names that callers made up."""

#: Outcomes by status code, for what did not succeed.
_OUTCOME_OF_STATUS = {500: "failed", 503: "rejected", 504: "timeout"}


class GatewayMetrics:
    """All metrics of the gateway process, in a registry of its own, every label set made at once."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(support_collectors_without_names=True)
        self.http_requests = Counter(
            f"{names.PREFIX}http_requests_total",
            "HTTP requests answered.",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self.http_seconds = Histogram(
            f"{names.PREFIX}http_request_duration_seconds",
            "Time to answer an HTTP request.",
            ["method", "route"],
            buckets=names.LATENCY_BUCKETS_SECONDS,
            registry=self.registry,
        )
        self._requests = Counter(
            f"{names.PREFIX}requests_total",
            "Prediction requests (lane interactive) and job submissions (lane bulk), by how they ended.",
            ["model", "lane", "outcome"],
            registry=self.registry,
        )
        self._request_seconds = Histogram(
            f"{names.PREFIX}request_duration_seconds",
            "Time of successful prediction requests and submissions as the caller sees it, queue included.",
            ["model", "lane"],
            buckets=names.LATENCY_BUCKETS_SECONDS,
            registry=self.registry,
        )
        self.in_progress = Gauge(
            f"{names.PREFIX}requests_in_progress",
            "Prediction requests and submissions that wait for their answer.",
            ["lane"],
            registry=self.registry,
        )
        self._rejections = Counter(
            f"{names.PREFIX}rejections_total",
            "Requests turned away, by reason.",
            ["reason"],
            registry=self.registry,
        )
        self.waiting_rows = Gauge(
            f"{names.PREFIX}waiting_rows",
            "Interactive rows in this gateway that wait for a free slot.",
            registry=self.registry,
        )
        self.shadow_rows_dropped = Counter(
            f"{names.PREFIX}shadow_rows_dropped_total",
            "Rows that were not sent to a version on trial, since there was too much to do.",
            registry=self.registry,
        )
        self.reconciled = Counter(
            f"{names.PREFIX}jobs_reconciled_total",
            "Overdue jobs, by what was done about them.",
            ["action"],
            registry=self.registry,
        )
        for action in ("gone", "expired", "worker_lost", "waiting", "republished"):
            self.reconciled.labels(action)
        for reason in REJECTIONS:
            self._rejections.labels(reason)
        self._by_model: dict[tuple[str, Lane], tuple[dict[str, Counter], Histogram]] = {}
        for lane in Lane:
            self.in_progress.labels(lane.value)

    def know(self, model: str) -> None:
        """Make the label sets of a model that exists; other names are counted as `unknown`."""
        for lane in Lane:
            self._by_model[model, lane] = (
                {outcome: self._requests.labels(model, lane.value, outcome) for outcome in OUTCOMES},
                self._request_seconds.labels(model, lane.value),
            )

    def succeeded(self, model: str, lane: Lane, seconds: float) -> None:
        """A request got what it asked for."""
        outcomes, histogram = self._of(model, lane)
        outcomes["ok"].inc()
        histogram.observe(seconds)

    def ended_with(self, model: str, lane: Lane, status: int, code: str) -> None:
        """A request got an error."""
        outcome = _OUTCOME_OF_STATUS.get(status, "invalid" if status < 500 else "failed")
        self._of(model, lane)[0][outcome].inc()
        if code in REJECTIONS:
            self._rejections.labels(code).inc()

    def _of(self, model: str, lane: Lane) -> tuple[dict[str, Counter], Histogram]:
        if (model, lane) not in self._by_model:
            if UNKNOWN_MODEL not in {known for known, _ in self._by_model}:
                self.know(UNKNOWN_MODEL)
            model = UNKNOWN_MODEL
        return self._by_model[model, lane]
