"""A request's spans in the gateway: for itself, and for its way through the queue. Imported if TRACING is on."""

from collections.abc import Callable, Mapping
from typing import Any

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, set_span_in_context
from starlette.types import Scope

from shared.observability.tracing import Carrier, Tracing, carried_by, context_of, end, ids_of
from shared.queue.contract import Lane

PROPAGATED = (b"traceparent", b"tracestate")
PATH_SHOWN_CHARACTERS = 256


class RequestTrace:
    """The spans of one request that is sampled. Times are seconds of the broker's clock."""

    def __init__(self, tracing: Tracing, now: Callable[[], float], span: Span) -> None:
        self._tracing = tracing
        self._now = now
        self._span = span
        self._way: Span | None = None
        self.carrier: Carrier = {}
        """What goes along with the request's rows, once they are on their way."""

    def accepted(self, lane: Lane, at: float, operation: str = "queue") -> None:
        """The rows wait for a worker from now on, or are being sent to the queue."""
        self._way = self._tracing.start(
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
        self.carrier = carried_by(self._way)

    def started(self, at: float) -> None:
        """A worker started the first batch with the rows; 0 if the one that did it is lost."""
        if self._way is not None and at:
            end(self._way, at)
            self._way = None

    def submitting(self) -> None:
        """A job goes to the queue."""
        self.accepted(Lane.BULK, self._now(), "send")

    def submitted(self) -> None:
        """It is there."""
        self.started(self._now())

    def about(self, model: str, version: str, parts: Mapping[str, float] | None = None) -> None:
        """Which version answered, and the answer's `timing`."""
        self._span.set_attribute("headrace.model", model)
        self._span.set_attribute("headrace.version", version)
        for name, value in (parts or {}).items():
            self._span.set_attribute(f"headrace.{name}", value)

    def end(self, method: str, route: str, status: int, error: str) -> None:
        """The request was answered; `error` is a problem's code, or empty."""
        now = self._now()
        # One that broke off in the middle had said 200.
        failed = status >= 500 or error == "internal_error"
        if self._way is not None:
            # No worker got to them: nobody is there, the broker is down, the caller left.
            end(self._way, now, error or str(status))
        self._span.update_name(f"{method} {route}")
        self._span.set_attribute("http.route", route)
        self._span.set_attribute("http.response.status_code", status)
        if error and not failed:
            # The caller's fault, which by the conventions is none of the server's.
            self._span.set_attribute("error.type", error)
        end(self._span, now, (error or str(status)) if failed else "")


class RequestTracing:
    """Makes the spans of requests, from its start on."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._tracing: Tracing | None = None

    def start(self) -> None:
        """Begin to export, in the process that serves."""
        self._tracing = Tracing("gateway")

    def close(self) -> None:
        """Export what is left; takes up to two seconds."""
        if self._tracing is not None:
            self._tracing.close()

    def begin(self, scope: Scope, request_id: str) -> tuple[RequestTrace | None, dict[str, str]]:
        """The trace of a request if it is sampled, and its ids for the log.

        It goes on with the caller's, whose decision about sampling is kept by the default sampler.
        """
        if self._tracing is None:
            return None, {}
        carrier = {name.decode(): value.decode("latin-1") for name, value in scope["headers"] if name in PROPAGATED}
        attributes: dict[str, Any] = {
            "http.request.method": scope["method"],
            "url.path": scope["path"][:PATH_SHOWN_CHARACTERS],
            "url.scheme": scope.get("scheme", "http"),
            "headrace.request_id": request_id,
        }
        span = self._tracing.start(scope["method"], SpanKind.SERVER, self._now(), context_of(carrier), attributes)
        return (RequestTrace(self._tracing, self._now, span) if span.is_recording() else None), ids_of(span)
