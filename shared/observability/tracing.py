"""OpenTelemetry spans of one process, exported by OTLP over HTTP. Imported only where TRACING is on.

Where to, how many and how they are buffered: OpenTelemetry's own OTEL_* variables. The provider is not made the global
one: FastAPI would trace the same requests once more.
"""

import logging
import os
import threading
from collections.abc import Mapping, Sequence

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_NAMESPACE, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import (
    Link,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

logger = logging.getLogger(__name__)

CLOSE_SECONDS = 2.0
"""How long an ending process waits for its last spans to be taken."""

Carrier = dict[str, str]
"""A span's context on its way: `traceparent`, and `tracestate` if there is one (W3C Trace Context)."""

Attributes = Mapping[str, AttributeValue]

_PROPAGATOR = TraceContextTextMapPropagator()


def carried_by(span: Span) -> Carrier:
    """The context of a span for others to carry on."""
    carrier: Carrier = {}
    _PROPAGATOR.inject(carrier, set_span_in_context(span, Context()))
    return carrier


def context_of(carrier: Mapping[str, str]) -> Context:
    """What a carrier says; without a readable `traceparent`, a context in which a new trace begins."""
    return _PROPAGATOR.extract(carrier, Context())


def span_context_of(carrier: Mapping[str, str]) -> SpanContext:
    """The span that a carrier names; not valid if it names none."""
    return get_current_span(context_of(carrier)).get_span_context()


def ids_of(span: Span) -> dict[str, str]:
    """Trace and span id, for the log."""
    context = span.get_span_context()
    return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}


class SpanExport(SpanExporter):
    """Exports, and says once per outage that it can't, instead of several lines every few seconds."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self.failing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Called in the thread of the span processor, so that nobody waits for it."""
        result = self._exporter.export(spans)
        failing = result is not SpanExportResult.SUCCESS
        if failing and not self.failing:
            logger.warning("spans are lost: the collector does not take them")
        elif self.failing and not failing:
            logger.info("spans are taken again")
        self.failing = failing
        return result

    def shutdown(self) -> None:
        """Also wakes one that waits before it tries again."""
        self._exporter.shutdown()


class Tracing:
    """The spans of one process. To be made after a fork: a thread exports them.

    Times are seconds of the broker's clock, so that the spans of a trace fit into each other whatever the machines'
    clocks say.
    """

    def __init__(self, process: str, exporter: SpanExporter | None = None) -> None:
        # What OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say comes before this.
        known: Attributes = {
            SERVICE_NAME: f"headrace-{process}",
            SERVICE_NAMESPACE: "headrace",
            "process.pid": os.getpid(),
        }
        self._export = SpanExport(exporter or OTLPSpanExporter())
        self._provider = TracerProvider(
            resource=Resource.create(known).merge(OTELResourceDetector().detect()), shutdown_on_exit=False
        )
        self._provider.add_span_processor(BatchSpanProcessor(self._export))
        self._tracer = self._provider.get_tracer("headrace")

    def start(
        self,
        name: str,
        kind: SpanKind,
        at: float,
        parent: Context,
        attributes: Attributes | None = None,
        links: Sequence[SpanContext] = (),
    ) -> Span:
        """Begin a span; one that is not sampled records nothing."""
        return self._tracer.start_span(
            name,
            context=parent,
            kind=kind,
            attributes=attributes,
            links=[Link(context) for context in links],
            start_time=_nanoseconds(at),
        )

    def close(self) -> None:
        """Export what is left, within CLOSE_SECONDS; not at all while the collector does not answer."""
        if self._export.failing:
            self._export.shutdown()
            return
        # It would wait for up to 30 s.
        closing = threading.Thread(target=self._provider.shutdown, name="last spans", daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)


def end(span: Span, at: float, error: str = "") -> None:
    """End a span; `error` is a code of a closed set."""
    if error:
        span.set_attribute("error.type", error)
        span.set_status(Status(StatusCode.ERROR))
    span.end(_nanoseconds(at))


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)
