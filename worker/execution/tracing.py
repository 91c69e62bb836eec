"""The spans of a pool child: one per batch, and one of the estimator's time in the trace of every request in it.

Imported only if TRACING is on. A request that is not sampled has no carrier in the queue, and gets no span here.
"""

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

import orjson
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, set_span_in_context

from shared.observability.tracing import Attributes, Carrier, Tracing, context_of, end, ids_of, span_context_of
from worker.execution.jobs import StartedJob
from worker.metrics.harmless import harmless


class BatchTrace:
    """The span of a batch that is being computed; a context manager that ends it. Times are of the broker's clock.

    One span can only be in one trace: it is in the trace of the first request, and linked to the spans of all requests.
    The trace of every other request gets a span of the estimator's time, linked to the batch's span.
    """

    def __init__(
        self, tracing: Tracing, now: Callable[[], float], carriers: Sequence[Carrier], span: Span, model: str
    ) -> None:
        self._tracing = tracing
        self._now = now
        self._carriers = carriers
        self._span = span
        self._model = model
        self._answered_at: float | None = None
        self._computed: tuple[float, float] | None = None
        """Start (broker's time) and duration in seconds of the estimator's work."""
        self._attributes: dict[str, Any] = {}
        self.ids = ids_of(span)

    def note_computed(self, at: float, seconds: float, rows: int) -> None:
        """Note when and for how long the estimator worked; its spans are made at the end, after the reply is out."""
        self._computed = (at, seconds)
        self._attributes = {"headrace.batch.rows": rows, "headrace.compute_ms": round(seconds * 1000, 3)}

    def note_answered(self) -> None:
        """Note that the answers are out: the span ends now, although the metrics are counted after that."""
        self._answered_at = self._now()

    def __enter__(self) -> "BatchTrace":
        return self

    @harmless()
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._computed is not None:
            self._add_compute_span(set_span_in_context(self._span, Context()))
            for carrier in self._carriers[1:]:
                self._add_compute_span(context_of(carrier), [self._span])
        end(self._span, self._answered_at or self._now(), "" if kind is None else kind.__name__)

    def _add_compute_span(self, parent: Context, links: Sequence[Span] = ()) -> None:
        assert self._computed is not None
        at, seconds = self._computed
        span = self._tracing.start(
            f"predict {self._model}",
            SpanKind.INTERNAL,
            at,
            parent,
            self._attributes,
            [link.get_span_context() for link in links],
        )
        end(span, at + seconds)


class ChildTracing:
    """The source of a pool child's spans; create it after the fork."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._tracing = Tracing("worker")

    def close(self) -> None:
        """Export the remaining spans; takes up to two seconds."""
        self._tracing.close()

    def start_batch(self, queue: str, model: str, version: str, carriers: Sequence[Carrier], at: float) -> BatchTrace:
        """Begin the span of a batch; `carriers` are of its traced requests, at least one."""
        span = self._tracing.start(
            f"process {queue}",
            SpanKind.CONSUMER,
            at,
            context_of(carriers[0]),
            {
                "messaging.system": "celery",
                "messaging.operation.type": "process",
                "messaging.operation.name": "process",
                "messaging.destination.name": queue,
                "messaging.batch.message_count": len(carriers),
                "headrace.model": model,
                "headrace.version": version,
            },
            [span_context_of(carrier) for carrier in carriers],
        )
        return BatchTrace(self._tracing, self._now, carriers, span, model)

    @harmless()
    def record_wait(self, queue: str, carrier: Carrier, job: StartedJob) -> None:
        """Make the span of a job's time from its acceptance to this attempt; of a request the gateway makes it."""
        attributes: Attributes = {"headrace.job_id": job.id, "headrace.attempt": job.attempt}
        span = self._tracing.start(
            f"queue {queue}", SpanKind.INTERNAL, job.accepted_at, context_of(carrier), attributes
        )
        end(span, max(job.started_at, job.accepted_at))

    def carriers_of(self, traces: object) -> dict[int, Carrier]:
        """Read the header `traces` of a queue entry: position of a call in its batch -> carrier.

        Parts that are malformed are left out.
        """
        if not isinstance(traces, dict):
            return {}
        carriers = {str(position): _carrier(value) for position, value in traces.items()}
        return {int(position): carrier for position, carrier in carriers.items() if carrier and position.isdecimal()}

    def carriers_of_jobs(self, jobs: Sequence[StartedJob]) -> dict[str, Carrier]:
        """Return id -> carrier of the jobs that are traced."""
        carriers = {job.id: _carrier(orjson.loads(job.trace)) for job in jobs if job.trace}
        return {job: carrier for job, carrier in carriers.items() if carrier}


def _carrier(value: object) -> Carrier:
    """Return a value from the queue as a carrier; an empty one if it names no span."""
    items = value.items() if isinstance(value, dict) else ()
    carrier = {str(name): text for name, text in items if isinstance(text, str)}
    return carrier if span_context_of(carrier).is_valid else {}
