"""The gateway's metrics: requests, their outcomes and their duration, as callers see them."""

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
"""Outcomes of a prediction request or submission for its caller; a submission is `ok` when the job is accepted."""

REJECTIONS = (
    "answers_full",
    "bodies_full",
    "broker_unavailable",
    "connections_full",
    "invalid_http",
    "no_worker",
    "not_replicated",
    "overloaded",
    "queue_full",
    "quota_exceeded",
    "rate_limited",
    "row_rejected",
    "slow_client",
    "stopping",
    "too_large",
)

#: Outcome by status code of an error. Other statuses are `invalid` below 500: a caller beyond its own rate limit (429)
#: does not count against the service.
_OUTCOME_OF_STATUS = {500: "failed", 503: "rejected", 504: "timeout"}


class _Histogram(Histogram):
    """A histogram that takes many observations at once, with one write per bucket instead of two per value."""

    def observe_many(self, values: Sequence[float]) -> None:
        """Add observations."""
        # Like `observe`: the first bucket whose upper bound is not less than the value.
        for bucket, count in Tally(bisect_left(self._upper_bounds, value) for value in values).items():
            self._buckets[bucket].inc(count)
        self._sum.inc(sum(values))


class GatewayMetrics(Collector):
    """All metrics of a gateway process, in a registry of its own, with every label set created at the start.

    Events of one turn of the event loop are noted, and written to the metrics together after it: each write costs a
    lock and a search, a good part of the time of an answer. Collecting writes everything first.

    In one of several processes, the registry shows the sums over all of them.
    """

    def __init__(self, one_of_several: bool = False) -> None:
        self.registry = CollectorRegistry(support_collectors_without_names=True)
        # Collected before the metrics, so that these are complete.
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
            "Prediction requests (lane interactive) and job submissions (lane bulk), by outcome.",
            ["model", "lane", "outcome"],
            registry=own,
        )
        self._request_seconds = _Histogram(
            f"{names.PREFIX}request_duration_seconds",
            "Time of successful prediction requests and submissions as the caller sees it, including the queue.",
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
            "Rejected requests, by reason.",
            ["reason"],
            registry=own,
        )
        self.master_changes = Counter(
            f"{names.PREFIX}broker_master_changes_total",
            "Times that Sentinels named another master; 0 without Sentinels.",
            registry=own,
        )
        self._waiting_rows = Gauge(
            f"{names.PREFIX}waiting_rows",
            "Interactive rows in this gateway that wait for a permit.",
            multiprocess_mode="livesum",
            registry=own,
        )
        self.waiting_rows_limit = Gauge(
            f"{names.PREFIX}waiting_rows_limit",
            "Most interactive rows that may wait in this gateway.",
            multiprocess_mode="livesum",
            registry=own,
        )
        self.workers_expected = Gauge(
            f"{names.PREFIX}workers_expected",
            "Workers that should live.",
            multiprocess_mode="livemax",
            registry=own,
        )
        self.jobs_open_limit = Gauge(
            f"{names.PREFIX}jobs_open_limit",
            "Most jobs without an outcome.",
            multiprocess_mode="livemax",
            registry=own,
        )
        self.estimated_wait_seconds = Gauge(
            f"{names.PREFIX}queue_estimated_wait_seconds",
            "Time that a row or a job accepted now would wait for a worker.",
            ["lane"],
            multiprocess_mode="livemax",
            registry=own,
        )
        self.shadow_rows_dropped = Counter(
            f"{names.PREFIX}shadow_rows_dropped_total",
            "Rows not sent to a version on trial: they had no time, or it takes no such rows.",
            registry=own,
        )
        self.reconciled = Counter(
            f"{names.PREFIX}jobs_reconciled_total",
            "Overdue jobs, by the reconciler's action.",
            ["action"],
            registry=own,
        )
        for action in ("gone", "damaged", "expired", "worker_lost", "waiting", "republished"):
            self.reconciled.labels(action)
        for reason in REJECTIONS:
            self._rejections.labels(reason)
        for lane in Lane:
            self.estimated_wait_seconds.labels(lane.value)
        self._label_of: dict[str, str] = {}
        """Labels of the models that exist, by name."""
        self._capped = names.CappedLabel()
        self.in_progress = {lane: 0 for lane in Lane}
        """Number of requests that wait for their answer, by lane."""
        self.waiting: Callable[[], int] = lambda: 0
        """Return the number of rows that wait in this process."""
        self._answered: list[tuple[str, str, int, float]] = []
        self._ended: list[tuple[str, Lane, str]] = []
        self._seconds: defaultdict[tuple[str, Lane], list[float]] = defaultdict(list)

    def know(self, model: str) -> None:
        """Create the label sets of a model that exists; other names are counted as `unknown`."""
        label = self._label_of[model] = self._capped(model)
        for lane in Lane:
            self._request_seconds.labels(label, lane.value)
            for outcome in OUTCOMES:
                self._requests.labels(label, lane.value, outcome)

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answered request; call in the event loop."""
        if not self._answered:
            asyncio.get_running_loop().call_soon(self.write)
        self._answered.append((method, route, status, seconds))

    def succeeded(self, model: str, lane: Lane, seconds: float) -> None:
        """Count a successful prediction request or submission."""
        model = self._label(model)
        self._ended.append((model, lane, "ok"))
        self._seconds[model, lane].append(seconds)

    def ended_with(self, model: str, lane: Lane, status: int, code: str) -> None:
        """Count a prediction request or submission that ended with an error."""
        outcome = _OUTCOME_OF_STATUS.get(status, "invalid" if status < 500 else "failed")
        self._ended.append((self._label(model), lane, outcome))
        # AnswerBudget counts its refusals itself, since answers of all routes are among them.
        if code in REJECTIONS and code != "answers_full":
            self.rejected(code)

    def rejected(self, reason: str) -> None:
        """Count a rejection; the reason is one of `REJECTIONS`."""
        self._rejections.labels(reason).inc()

    def _label(self, model: str) -> str:
        label = self._label_of.get(model)
        if label is not None:
            return label
        if names.UNKNOWN_MODEL not in self._label_of:
            self.know(names.UNKNOWN_MODEL)
        return self._label_of[names.UNKNOWN_MODEL]

    def write(self) -> None:
        """Write the noted events to the metrics."""
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
        """Write the noted events; return no metrics, since they are in the registry themselves."""
        self.write()
        return iter(())
