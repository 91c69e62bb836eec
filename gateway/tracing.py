"""Spans of a request in the gateway: one for itself, one for its time in the queue. Imported only if TRACING is on."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, set_span_in_context

from shared.observability.tracing import Carrier, Tracing, carried_by, context_of, end, ids_of
from shared.queue.contract import Lane

_MEMBER = rb"[a-z0-9][a-z0-9_*/@-]*=[\x20-\x2b\x2d-\x3c\x3e-\x7e]+"

PROPAGATED = {
    b"traceparent": re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}"),
    b"tracestate": re.compile(rb"(?=.{1,512}\Z)%b(?:,[ \t]*%b)*" % (_MEMBER, _MEMBER)),
}
"""Request headers that carry the caller's trace (W3C Trace Context), and the form that each must have to go on."""

PATH_SHOWN_CHARACTERS = 256
"""Characters of the path in a span at most."""


class RequestTrace:
    """The spans of one sampled request. Times are seconds of the broker's clock."""

    def __init__(self, tracing: Tracing, now: Callable[[], float], span: Span) -> None:
        self._tracing = tracing
        self._now = now
        self._span = span
        self._queue_span: Span | None = None
        self.carrier: Carrier = {}
        """Trace context that is sent to the worker with the request's rows; empty until they are accepted."""

    def begin_queue(self, lane: Lane, at: float, operation: str = "queue") -> None:
        """Begin the span of the rows' time in the queue, or of sending them there."""
        self._queue_span = self._tracing.start(
            f"{operation} {lane.value}",
            SpanKind.PRODUCER,
            at,
            set_span_in_context(self._span, Context()),
            {
                "messaging.system": "celery",
                "messaging.operation.type": "send",
                "messaging.operation.name": operation,
                "messaging.destination.name": lane.value,
            },
        )
        self.carrier = carried_by(self._queue_span)

    def end_queue(self, at: float) -> None:
        """End the queue span: a worker started the first batch with the rows. At 0, of a lost worker, it stays open."""
        if self._queue_span is not None and at:
            end(self._queue_span, at)
            self._queue_span = None

    def begin_submission(self) -> None:
        """Begin the span of sending a job to the queue."""
        self.begin_queue(Lane.BULK, self._now(), "send")

    def end_submission(self) -> None:
        """End the span of sending a job."""
        self.end_queue(self._now())

    def describe(self, model: str, version: str, parts: Mapping[str, float] | None = None) -> None:
        """Note which version answered, and the answer's `timing` in milliseconds."""
        self._span.set_attribute("headrace.model", model)
        self._span.set_attribute("headrace.version", version)
        for name, value in (parts or {}).items():
            self._span.set_attribute(f"headrace.{name}", value)

    def end(self, method: str, route: str, status: int, error: str) -> None:
        """End the spans when the request was answered; `error` is a problem's code, or empty."""
        now = self._now()
        # A response that broke off in the middle had the status 200.
        failed = status >= 500 or error == "internal_error"
        if self._queue_span is not None:
            # No worker started the rows: none is running, the broker is down, or the caller left.
            end(self._queue_span, now, error or str(status))
        self._span.update_name(f"{method} {route}")
        self._span.set_attribute("http.route", route)
        self._span.set_attribute("http.response.status_code", status)
        if error and not failed:
            # By OpenTelemetry's HTTP conventions a 4xx is no error of the server's span.
            self._span.set_attribute("error.type", error)
        end(self._span, now, (error or str(status)) if failed else "")


class RequestTracing:
    """A maker of request traces; makes none before `start`."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._tracing: Tracing | None = None

    def start(self) -> None:
        """Begin to export; call in the process that serves."""
        self._tracing = Tracing("gateway")

    def close(self) -> None:
        """Export the remaining spans; takes up to two seconds."""
        if self._tracing is not None:
            self._tracing.close()

    def begin(
        self, method: str, path: str, headers: Iterable[tuple[bytes, bytes]], scheme: str, request_id: str
    ) -> tuple[RequestTrace | None, dict[str, str]]:
        """Begin the trace of a request.

        The trace continues the caller's, and the default sampler keeps the caller's decision about sampling.

        Returns:
            The trace, None if it is not sampled; and its ids for the log.
        """
        if self._tracing is None:
            return None, {}
        carrier = {
            name.decode(): value.decode()
            for name, value in headers
            if name in PROPAGATED and PROPAGATED[name].fullmatch(value)
        }
        attributes: dict[str, Any] = {
            "http.request.method": method,
            "url.path": path[:PATH_SHOWN_CHARACTERS],
            "url.scheme": scheme,
            "headrace.request_id": request_id,
        }
        span = self._tracing.start(method, SpanKind.SERVER, self._now(), context_of(carrier), attributes)
        return (RequestTrace(self._tracing, self._now, span) if span.is_recording() else None), ids_of(span)
