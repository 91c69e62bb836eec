"""A collector of OpenTelemetry spans: a thread that receives OTLP over HTTP and keeps the spans."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status


@dataclass(frozen=True)
class Seen:
    """A received span. Ids are hexadecimal digits, times are nanoseconds."""

    service: str
    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    start: int
    end: int
    error: bool
    attributes: dict[str, Any]
    links: list[tuple[str, str]]
    """Linked spans, as (trace id, span id)."""

    @property
    def ms(self) -> float:
        """Duration in milliseconds."""
        return (self.end - self.start) / 1e6


@dataclass
class Collector:
    """The spans received so far, and the address to send more to."""

    endpoint: str = ""
    spans: list[Seen] = field(default_factory=list)

    def of_trace(self, trace_id: str) -> list[Seen]:
        """Return the spans of a trace in the order of their starts."""
        return sorted((span for span in [*self.spans] if span.trace_id == trace_id), key=lambda span: span.start)

    def take(self, body: bytes) -> None:
        """Receive an export."""
        request = ExportTraceServiceRequest.FromString(body)
        for resource in request.resource_spans:
            about = {each.key: each.value.string_value for each in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.spans += [_seen(about["service.name"], span) for span in scope.spans]


def _seen(service: str, span: Any) -> Seen:
    return Seen(
        service=service,
        name=span.name,
        kind=Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        start=span.start_time_unix_nano,
        end=span.end_time_unix_nano,
        error=span.status.code == Status.STATUS_CODE_ERROR,
        attributes={each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes},
        links=[(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
    )


@contextmanager
def collecting(port: int = 0) -> Iterator[Collector]:
    """Run a collector on a port of loopback, by default on a free one."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert (self.path, self.headers["Content-Type"]) == ("/v1/traces", "application/x-protobuf")
            collector.take(body)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            """Log nothing: tests are quiet."""

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        collector.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), name="collector")
        thread.start()
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()
