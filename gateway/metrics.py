"""The gateway's metrics: what callers asked, what they got, and how long it took them."""

import asyncio
import os
from bisect import bisect_left
from collections import Counter as Tally
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from shared.observability import metric_names as names
from shared.observability.build_info import BuildInfo
from shared.observability.multiprocess import add_up_files
from shared.observability.processes import ProcessesAsOne
from shared.queue.contract import Lane

OUTCOMES = ("ok", "invalid", "rejected", "failed", "timeout")
"""How a prediction request or a submission ended for its caller; a submission is `ok` when the job is accepted."""

REJECTIONS = (
    "bodies_full",
    "broker_unavailable",
    "connections_full",
    "no_worker",
    "overloaded",
    "queue_full",
    "rate_limited",
    "slow_client",
    "too_large",
)

#: Outcomes by status code, for what did not succeed. Who exceeds its own limit (429) is `invalid`: no fault of ours.
_OUTCOME_OF_STATUS = {500: "failed", 503: "rejected", 504: "timeout"}


class _Histogram(Histogram):
    """A histogram that takes many observations at once: one write per bucket, not two per value."""

    def observe_many(self, values: Sequence[float]) -> None:
        """Add observations."""
        # As `observe`: the first bucket whose bound is not less.
        for bucket, count in Tally(bisect_left(self._upper_bounds, value) for value in values).items():
            self._buckets[bucket].inc(count)
        self._sum.inc(sum(values))


class GatewayMetrics(Collector):
    """All metrics of a gateway process, in a registry of its own, every label set made at once.

    What happens in one turn of the event loop is noted, and written to the metrics together after it: a write costs a
    lock and a search each, as much as a good part of an answer. Whoever collects has everything written first.

    As one of several processes, the registry shows what all of them have written, gauges added up.
    """

    def __init__(self, one_of_several: bool = False) -> None:
        self.registry = CollectorRegistry(support_collectors_without_names=True)
        # Before the metrics, so that these are complete when their turn comes.
        self.registry.register(self)
        own = None if one_of_several else self.registry
        self.registry.register(BuildInfo())
        if one_of_several:
            add_up_files(self.registry)
            self.registry.register(ProcessesAsOne(os.getppid()))
        else:
            ProcessCollector(registry=self.registry)
        self.http_requests = Counter(
            f"{names.PREFIX}http_requests_total",
            "HTTP requests answered.",
            ["method", "route", "status"],
            registry=own,
        )
        self.http_seconds = _Histogram(
            f"{names.PREFIX}http_request_duration_seconds",
            "Time to answer an HTTP request.",
            ["method", "route"],
            buckets=names.LATENCY_BUCKETS_SECONDS,
            registry=own,
        )
        self._requests = Counter(
            f"{names.PREFIX}requests_total",
            "Prediction requests (lane interactive) and job submissions (lane bulk), by how they ended.",
            ["model", "lane", "outcome"],
            registry=own,
        )
        self._request_seconds = _Histogram(
            f"{names.PREFIX}request_duration_seconds",
            "Time of successful prediction requests and submissions as the caller sees it, queue included.",
            ["model", "lane"],
            buckets=names.LATENCY_BUCKETS_SECONDS,
            registry=own,
        )
        self._in_progress = Gauge(
            f"{names.PREFIX}requests_in_progress",
            "Prediction requests and submissions that wait for their answer.",
            ["lane"],
            multiprocess_mode="livesum",
            registry=own,
        )
        self._rejections = Counter(
            f"{names.PREFIX}rejections_total",
            "Requests turned away, by reason.",
            ["reason"],
            registry=own,
        )
        self._waiting_rows = Gauge(
            f"{names.PREFIX}waiting_rows",
            "Interactive rows in this gateway that wait for a free slot.",
            multiprocess_mode="livesum",
            registry=own,
        )
        self.waiting_rows_limit = Gauge(
            f"{names.PREFIX}waiting_rows_limit",
            "Interactive rows that may wait in this gateway at most.",
            multiprocess_mode="livesum",
            registry=own,
        )
        self.jobs_open_limit = Gauge(
            f"{names.PREFIX}jobs_open_limit",
            "Jobs without an outcome at most.",
            multiprocess_mode="livemax",
            registry=own,
        )
        self.estimated_wait_seconds = Gauge(
            f"{names.PREFIX}queue_estimated_wait_seconds",
            "How long a row or a job that is accepted now would wait for a worker.",
            ["lane"],
            multiprocess_mode="livemax",
            registry=own,
        )
        self.shadow_rows_dropped = Counter(
            f"{names.PREFIX}shadow_rows_dropped_total",
            "Rows that were not sent to a version on trial, since there was too much to do.",
            registry=own,
        )
        self.reconciled = Counter(
            f"{names.PREFIX}jobs_reconciled_total",
            "Overdue jobs, by what was done about them.",
            ["action"],
            registry=own,
        )
        for action in ("gone", "expired", "worker_lost", "waiting", "republished"):
            self.reconciled.labels(action)
        for reason in REJECTIONS:
            self._rejections.labels(reason)
        for lane in Lane:
            self.estimated_wait_seconds.labels(lane.value)
        self._label_of: dict[str, str] = {}
        """Models that exist, and what they are called in labels."""
        self._capped = names.CappedLabel()
        self.in_progress = {lane: 0 for lane in Lane}
        """Requests that wait for their answer now."""
        self.waiting: Callable[[], int] = lambda: 0
        """Tells how many rows wait in this process."""
        self._answered: list[tuple[str, str, int, float]] = []
        self._ended: list[tuple[str, Lane, str]] = []
        self._seconds: defaultdict[tuple[str, Lane], list[float]] = defaultdict(list)

    def know(self, model: str) -> None:
        """Make the label sets of a model that exists; other names are counted as `unknown`."""
        label = self._label_of[model] = self._capped(model)
        for lane in Lane:
            self._request_seconds.labels(label, lane.value)
            for outcome in OUTCOMES:
                self._requests.labels(label, lane.value, outcome)

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request was answered; called in the event loop."""
        if not self._answered:
            asyncio.get_running_loop().call_soon(self.write)
        self._answered.append((method, route, status, seconds))

    def succeeded(self, model: str, lane: Lane, seconds: float) -> None:
        """A request got what it asked for."""
        model = self._label(model)
        self._ended.append((model, lane, "ok"))
        self._seconds[model, lane].append(seconds)

    def ended_with(self, model: str, lane: Lane, status: int, code: str) -> None:
        """A request got an error."""
        outcome = _OUTCOME_OF_STATUS.get(status, "invalid" if status < 500 else "failed")
        self._ended.append((self._label(model), lane, outcome))
        if code in REJECTIONS:
            self.rejected(code)

    def rejected(self, reason: str) -> None:
        """A caller was turned away for one of `REJECTIONS`."""
        self._rejections.labels(reason).inc()

    def _label(self, model: str) -> str:
        label = self._label_of.get(model)
        if label is not None:
            return label
        if names.UNKNOWN_MODEL not in self._label_of:
            self.know(names.UNKNOWN_MODEL)
        return self._label_of[names.UNKNOWN_MODEL]

    def write(self) -> None:
        """Write what was noted."""
        answered, self._answered = self._answered, []
        ended, self._ended = self._ended, []
        succeeded, self._seconds = self._seconds, defaultdict(list)
        seconds: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
        for method, route, _, duration in answered:
            seconds[method, route].append(duration)
        for (method, route, status), count in Tally(request[:3] for request in answered).items():
            self.http_requests.labels(method, route, str(status)).inc(count)
        for (method, route), durations in seconds.items():
            self.http_seconds.labels(method, route).observe_many(durations)
        for (model, lane, outcome), count in Tally(ended).items():
            self._requests.labels(model, lane.value, outcome).inc(count)
        for (model, lane), durations in succeeded.items():
            self._request_seconds.labels(model, lane.value).observe_many(durations)
        for lane, count in self.in_progress.items():
            self._in_progress.labels(lane.value).set(count)
        self._waiting_rows.set(self.waiting())

    def collect(self) -> Iterator[Metric]:
        """Nothing of its own: the metrics are in the registry themselves."""
        self.write()
        return iter(())
