import logging
import threading
import time
from collections.abc import Iterator, Sequence

import pytest
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind

from shared.observability import tracing as module
from shared.observability.tracing import SpanExport, Tracing, carried_by, context_of, end, ids_of, span_context_of
from tests.support.collector import collecting
from tests.support.processes import PATIENCE_SECONDS, wait_for

TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED, UNSAMPLED = f"00-{TRACE_ID}-{SPAN_ID}-01", f"00-{TRACE_ID}-{SPAN_ID}-00"


@pytest.fixture(autouse=True)
def no_settings_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_TRACES_SAMPLER", "OTEL_SDK_DISABLED"):
        monkeypatch.delenv(name, raising=False)


class Recorder(SpanExporter):
    """An exporter that keeps spans, and fails or hangs if a test says so."""

    HANGS_SECONDS = 20

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []
        self.result = SpanExportResult.SUCCESS
        self.hangs = threading.Event()
        self.hangs.set()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.hangs.wait(self.HANGS_SECONDS)
        self.spans += spans
        return self.result


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    recorder = Recorder()
    yield recorder
    recorder.hangs.set()


@pytest.mark.parametrize("traceparent", [None, "", "sesame", SAMPLED + "x" * 99, SAMPLED.replace(TRACE_ID, "0" * 32)])
def test_without_a_readable_traceparent_a_trace_begins(recorder: Recorder, traceparent: str | None) -> None:
    tracing = Tracing("gateway", recorder)
    headers = {} if traceparent is None else {"traceparent": traceparent}
    span = tracing.start("x", SpanKind.SERVER, 1.0, context_of(headers))
    end(span, 2.0)
    tracing.close()

    [seen] = recorder.spans
    assert seen.parent is None
    assert ids_of(span)["trace_id"] != TRACE_ID


def test_a_callers_trace_goes_on_with_its_state(recorder: Recorder) -> None:
    tracing = Tracing("gateway", recorder)
    span = tracing.start("x", SpanKind.SERVER, 1.0, context_of({"traceparent": SAMPLED, "tracestate": "a=b"}))
    carrier = carried_by(span)
    end(span, 1.5)
    tracing.close()

    ids = ids_of(span)
    assert ids["trace_id"] == TRACE_ID
    assert carrier == {"traceparent": f"00-{TRACE_ID}-{ids['span_id']}-01", "tracestate": "a=b"}
    assert span_context_of(carrier).span_id == int(ids["span_id"], 16)
    [seen] = recorder.spans
    assert seen.parent and seen.parent.span_id == int(SPAN_ID, 16)
    assert (seen.start_time, seen.end_time) == (1_000_000_000, 1_500_000_000)


def test_a_trace_that_the_caller_does_not_sample_records_nothing(recorder: Recorder) -> None:
    tracing = Tracing("gateway", recorder)
    span = tracing.start("x", SpanKind.SERVER, 1.0, context_of({"traceparent": UNSAMPLED}))
    assert not span.is_recording()
    assert ids_of(span)["trace_id"] == TRACE_ID
    end(span, 2.0, "error")
    tracing.close()

    assert recorder.spans == []


@pytest.mark.parametrize(
    ("environment", "service"),
    [
        ({}, "headrace-worker"),
        ({"OTEL_SERVICE_NAME": "mine"}, "mine"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=mine,team=a"}, "mine"),
    ],
)
def test_the_environment_names_the_service(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], service: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    tracing = Tracing("worker", recorder)
    end(tracing.start("x", SpanKind.SERVER, 1.0, Context()), 2.0)
    tracing.close()

    assert recorder.spans[0].resource.attributes["service.name"] == service


def test_the_environment_sets_the_sampling(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off")
    tracing = Tracing("worker", recorder)

    assert not tracing.start("x", SpanKind.SERVER, 1.0, Context()).is_recording()
    assert tracing.start("x", SpanKind.SERVER, 1.0, context_of({"traceparent": SAMPLED})).is_recording()
    tracing.close()


def test_spans_go_to_the_endpoint_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
        tracing = Tracing("gateway")
        span = tracing.start("x", SpanKind.SERVER, 1.0, Context(), {"a": 1})
        end(span, 2.0, "worker_lost")
        tracing.close()

    [seen] = collector.spans
    assert (seen.service, seen.name, seen.kind, seen.error) == ("headrace-gateway", "x", "SERVER", True)
    assert seen.attributes == {"a": 1, "error.type": "worker_lost"}


def test_an_outage_and_its_end_are_logged_once(recorder: Recorder, caplog: pytest.LogCaptureFixture) -> None:
    export = SpanExport(recorder)
    with caplog.at_level(logging.INFO, "shared.observability.tracing"):
        for result in (SpanExportResult.FAILURE,) * 3 + (SpanExportResult.SUCCESS,) * 2 + (SpanExportResult.FAILURE,):
            recorder.result = result
            export.export([])

    assert [record.message.split(":")[0] for record in caplog.records] == [
        "spans are lost",
        "spans are taken again",
        "spans are lost",
    ]


def test_a_collector_that_hangs_does_not_hold_up_the_end(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CLOSE_SECONDS", 0.1)
    recorder.hangs.clear()
    tracing = Tracing("gateway", recorder)
    end(tracing.start("x", SpanKind.SERVER, 1.0, Context()), 2.0)

    began = time.monotonic()
    tracing.close()

    assert time.monotonic() - began < recorder.HANGS_SECONDS
    assert recorder.spans == []
    recorder.hangs.set()
    wait_for("the thread ends", lambda: not [each for each in threading.enumerate() if each.name == "last spans"])


def test_the_last_spans_are_dropped_while_the_collector_does_not_answer(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CLOSE_SECONDS", 2 * PATIENCE_SECONDS)
    recorder.result = SpanExportResult.FAILURE
    tracing = Tracing("gateway", recorder)
    tracing._export.export([])
    end(tracing.start("x", SpanKind.SERVER, 1.0, Context()), 2.0)

    began = time.monotonic()
    tracing.close()

    assert time.monotonic() - began < PATIENCE_SECONDS
    assert recorder.spans == []
    tracing._provider.shutdown()
