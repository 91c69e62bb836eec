"""A pool child's spans: one for each batch with what the estimator took, seen from each request of it.

Imported if TRACING is on. Requests that are not sampled leave nothing in the queue, and so nothing here.
"""

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

import orjson
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, set_span_in_context

from shared.observability.tracing import Attributes, Carrier, Tracing, context_of, end, ids_of, span_context_of
from worker.execution.jobs import StartedJob


class BatchTrace:
    """The span of a batch that is being computed; a context manager that ends it. Times are the broker's.

    It is in the trace of the first request, for there is one span and many traces, and linked to all of them. The
    others' traces get a span of the estimator's time each, linked to the batch.
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
        self._attributes: dict[str, Any] = {}
        self.ids = ids_of(span)

    def computed(self, at: float, seconds: float, rows: int) -> None:
        """The estimator answered: since when and for how long it was at work. Told later, so that nobody waits."""
        self._computed = (at, seconds)
        self._attributes = {"headrace.batch.rows": rows, "headrace.compute_ms": round(seconds * 1000, 3)}

    def answered(self) -> None:
        """The answers are out; what comes after that is no part of it."""
        self._answered_at = self._now()

    def __enter__(self) -> "BatchTrace":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._computed is not None:
            self._view(set_span_in_context(self._span, Context()))
            for carrier in self._carriers[1:]:
                self._view(context_of(carrier), [self._span])
        end(self._span, self._answered_at or self._now(), "" if kind is None else kind.__name__)

    def _view(self, parent: Context, links: Sequence[Span] = ()) -> None:
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
    """Makes the spans of a pool child; to be made after the fork."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._tracing = Tracing("worker")

    def close(self) -> None:
        """Export what is left; takes up to two seconds."""
        self._tracing.close()

    def batch(self, queue: str, model: str, version: str, carriers: Sequence[Carrier], at: float) -> BatchTrace:
        """Begin the span of a batch for these requests, at least one."""
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

    def waited(self, queue: str, carrier: Carrier, job: StartedJob) -> None:
        """A job's time from its acceptance to this attempt; of a request the gateway itself sees it."""
        attributes: Attributes = {"headrace.job_id": job.id, "headrace.attempt": job.attempt}
        span = self._tracing.start(
            f"queue {queue}", SpanKind.INTERNAL, job.accepted_at, context_of(carrier), attributes
        )
        end(span, max(job.started_at, job.accepted_at))

    def carriers_of(self, traces: object) -> list[tuple[int, Carrier]]:
        """A queue entry's header `traces`: the position of a call in the batch, and its carrier. Else nothing."""
        if not isinstance(traces, dict):
            return []
        named = [(str(at), _carrier(each)) for at, each in traces.items()]
        return [(int(at), carrier) for at, carrier in named if carrier and at.isdecimal()]

    def carriers_of_jobs(self, jobs: Sequence[StartedJob]) -> dict[str, Carrier]:
        """Id -> carrier of the jobs that are traced."""
        read = {job.id: _carrier(orjson.loads(job.trace)) for job in jobs if job.trace}
        return {job: carrier for job, carrier in read.items() if carrier}


def _carrier(value: object) -> Carrier:
    """What came through the queue, if it names a span; else nothing."""
    named = value.items() if isinstance(value, dict) else ()
    carrier = {str(name): text for name, text in named if isinstance(text, str)}
    return carrier if span_context_of(carrier).is_valid else {}
