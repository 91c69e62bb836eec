"""OpenTelemetry spans of one process, exported by OTLP over HTTP; imported only if TRACING is on.

OpenTelemetry's own OTEL_* variables set the endpoint, the sampling and the buffers. The provider is not made the global
one: FastAPI would then trace the same requests once more.
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
"""Time that an ending process gives to the export of its last spans."""

Carrier = dict[str, str]
"""Context of a span between processes: `traceparent`, and `tracestate` if there is one (W3C Trace Context)."""

Attributes = Mapping[str, AttributeValue]

_PROPAGATOR = TraceContextTextMapPropagator()


def carried_by(span: Span) -> Carrier:
    """Return the context of a span as a carrier."""
    carrier: Carrier = {}
    _PROPAGATOR.inject(carrier, set_span_in_context(span, Context()))
    return carrier


def context_of(carrier: Mapping[str, str]) -> Context:
    """Return the context of a carrier; without a readable `traceparent` a new trace begins in it."""
    return _PROPAGATOR.extract(carrier, Context())


def span_context_of(carrier: Mapping[str, str]) -> SpanContext:
    """Return the span context of a carrier, which is not valid if the carrier names no span."""
    return get_current_span(context_of(carrier)).get_span_context()


def ids_of(span: Span) -> dict[str, str]:
    """Return trace and span id as fields for the log."""
    context = span.get_span_context()
    return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}


class SpanExport(SpanExporter):
    """Exporter that logs one line per outage, where OpenTelemetry logs several every few seconds."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self.failing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export spans; runs in the thread of the span processor, so that no request waits for it."""
        result = self._exporter.export(spans)
        failing = result is not SpanExportResult.SUCCESS
        if failing and not self.failing:
            logger.warning("spans are lost: the collector does not take them")
        elif self.failing and not failing:
            logger.info("spans are taken again")
        self.failing = failing
        return result

    def shutdown(self) -> None:
        """Shut the exporter down, also one that sleeps before its next try."""
        self._exporter.shutdown()


class Tracing:
    """Maker and exporter of the spans of one process, to be built after a fork, since it starts a thread.

    Times are seconds of the broker's clock, so that the spans of a trace nest correctly even if the clocks of the
    machines differ.
    """

    def __init__(self, process: str, exporter: SpanExporter | None = None) -> None:
        # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES take precedence over these.
        defaults: Attributes = {
            SERVICE_NAME: f"headrace-{process}",
            SERVICE_NAMESPACE: "headrace",
            "process.pid": os.getpid(),
        }
        self._export = SpanExport(exporter or OTLPSpanExporter())
        self._provider = TracerProvider(
            resource=Resource.create(defaults).merge(OTELResourceDetector().detect()), shutdown_on_exit=False
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
        """Start a span, which records nothing if it is not sampled."""
        return self._tracer.start_span(
            name,
            context=parent,
            kind=kind,
            attributes=attributes,
            links=[Link(context) for context in links],
            start_time=_nanoseconds(at),
        )

    def close(self) -> None:
        """Export the last spans, within CLOSE_SECONDS; drop them if the collector does not answer."""
        if self._export.failing:
            self._export.shutdown()
            return
        # In a thread, as the provider's shutdown may wait for up to 30 s.
        closing = threading.Thread(target=self._provider.shutdown, name="last spans", daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)


def end(span: Span, at: float, error: str = "") -> None:
    """End a span; `error` is empty or one of a closed set of codes."""
    if error:
        span.set_attribute("error.type", error)
        span.set_status(Status(StatusCode.ERROR))
    span.end(_nanoseconds(at))


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)
