"""Spans of a request: the app is called as a server would, with a fake queue and a clock of the test's."""

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from gateway.api.statuses import problem_of
from gateway.batching.batcher import Batcher
from gateway.errors import RequestError
from gateway.fairness.budget import Budget
from gateway.metrics import GatewayMetrics
from gateway.settings import GatewaySettings
from gateway.tracing import RequestTracing
from gateway.web.exchange import Exchanges
from gateway.web.middleware import RequestMiddleware
from gateway.web.request_context import context_of
from shared.observability.log_context import log_context
from shared.observability.tracing import Tracing
from shared.queue.broker_clock import BrokerClock
from shared.queue.contract import Lane
from tests.support.coroutines import run, turns
from tests.support.manifests import classifier
from tests.unit.gateway.fakes import FakeBatchClient, common, predicted

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
SAMPLED = f"00-{TRACE_ID}-b7ad6b7169203331-01".encode()
UNSAMPLED = SAMPLED[:-2] + b"00"


class Bench:
    """Requests that go to a batcher, and their spans."""

    def __init__(self) -> None:
        self.now = 100.0
        self.exporter = InMemorySpanExporter()
        self.requests = RequestTracing(lambda: self.now)
        self.requests._tracing = Tracing("gateway", self.exporter)
        self.batch_client = FakeBatchClient()
        self.settings = GatewaySettings(tracing=True)
        clock = BrokerClock()
        clock.now = lambda: self.now  # type: ignore[method-assign]
        self.batcher = Batcher(classifier(), self.batch_client, common(), clock, Budget(100), self.settings)
        self.bound: list[dict[str, Any]] = []
        self.failure: Exception | None = None

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer behind the middleware."""
        self.bound.append(dict(log_context()))
        scope["endpoint"] = self
        status = 200
        if self.failure is not None:
            raise self.failure
        try:
            trace = context_of(scope).trace
            answer = await predicted(self.batcher, [[1.0, 2.0]], 5.0, trace=trace)
            if trace is not None:
                trace.end_queue(answer.started_at)
        except RequestError as error:
            problem = problem_of(error)
            context_of(scope).problem = problem.code
            status = problem.status
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body"})

    template = "/predict"

    async def ask(self, *traceparents: bytes, path: str = "/predict") -> None:
        """Send a request."""
        headers = [(b"traceparent", each) for each in traceparents]
        scope = {"type": "http", "method": "POST", "path": path, "headers": headers}
        exchanges = Exchanges(GatewayMetrics(), tracing=self.requests)
        await RequestMiddleware(self.answer, exchanges)(scope, _nothing, _sent)

    def spans(self) -> dict[str, Any]:
        """Return the spans by name, once all are exported."""
        self.requests.close()
        found = {span.name: span for span in self.exporter.get_finished_spans()}
        assert len(found) == len(self.exporter.get_finished_spans())
        return found


async def _nothing() -> Message:
    raise AssertionError


async def _sent(_: Message) -> None:
    """Drop the response."""


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.requests.close()


async def answered(bench: Bench, *traceparents: bytes, started_at: float = 100.5) -> None:
    """Send a request and answer it at 101 s."""
    asking = asyncio.create_task(bench.ask(*traceparents))
    await turns()
    (message,) = bench.batch_client.published
    bench.now = 101.0
    bench.batch_client.answer(message, started_at=started_at)
    await asking


def test_the_queue_is_a_span_of_the_time_that_the_answer_tells(bench: Bench) -> None:
    run(answered(bench, SAMPLED))

    spans = bench.spans()
    server, queue = spans["POST /predict"], spans["queue interactive"]
    assert (server.start_time, server.end_time) == (100_000_000_000, 101_000_000_000)
    assert (queue.start_time, queue.end_time) == (100_000_000_000, 100_500_000_000)
    assert queue.parent.span_id == server.context.span_id
    [traces] = bench.batch_client.traces
    assert traces == {"0": {"traceparent": f"00-{TRACE_ID}-{queue.context.span_id:016x}-01"}}
    assert bench.bound[0]["trace_id"] == TRACE_ID
    assert bench.bound[0]["span_id"] == f"{server.context.span_id:016x}"


def test_unsampled_requests_carry_nothing_but_are_logged_with_their_trace(bench: Bench) -> None:
    run(answered(bench, UNSAMPLED))

    assert bench.batch_client.traces == [{}]
    assert bench.bound[0]["trace_id"] == TRACE_ID
    assert bench.spans() == {}


def test_of_several_callers_only_those_who_are_sampled_are_named(bench: Bench) -> None:
    async def three() -> None:
        first = asyncio.create_task(bench.ask(UNSAMPLED))
        await turns()
        others = [asyncio.create_task(bench.ask(each)) for each in (UNSAMPLED, SAMPLED)]
        await turns()
        bench.batch_client.answer(bench.batch_client.published[0])
        await turns()
        bench.batch_client.answer(bench.batch_client.published[1])
        await asyncio.gather(first, *others)

    run(three())

    assert [list(traces) for traces in bench.batch_client.traces] == [[], ["1"]]


def test_a_wait_in_vain_is_an_error_until_its_end(bench: Bench) -> None:
    bench.batch_client.failure = OSError()
    run(bench.ask(SAMPLED))

    spans = bench.spans()
    assert {name: span.attributes["error.type"] for name, span in spans.items()} == dict.fromkeys(
        ("POST /predict", "queue interactive"), "broker_unavailable"
    )
    assert not any(span.status.is_ok for span in spans.values())


def test_a_batch_that_is_lost_has_no_start(bench: Bench) -> None:
    run(answered(bench, SAMPLED, started_at=0.0))

    assert bench.spans()["queue interactive"].end_time == 101_000_000_000


@pytest.mark.parametrize(
    ("failure", "status", "error"), [(RuntimeError(), 500, "internal_error"), (ClientDisconnect(), 499, None)]
)
def test_what_nobody_answered_ends_too(bench: Bench, failure: Exception, status: int, error: str | None) -> None:
    bench.failure = failure
    run(bench.ask(SAMPLED))

    attributes = bench.spans()["POST /predict"].attributes
    assert (attributes["http.response.status_code"], attributes.get("error.type")) == (status, error)


@pytest.mark.parametrize("traceparents", [(b"sesame",), (b"\xff\xfe",), ()])
def test_an_unreadable_traceparent_begins_a_trace(bench: Bench, traceparents: tuple[bytes, ...]) -> None:
    run(answered(bench, *traceparents))

    assert bench.spans()["POST /predict"].parent is None


@pytest.mark.parametrize(
    "header",
    [
        (b"tracestate", b"a=" + b"x" * 8000),
        (b"tracestate", b"2026-11-28 ERROR gateway: made up"),
        (b"traceparent", b"00-" + b"1" * 8000),
    ],
)
def test_long_and_made_up_traces_go_nowhere_and_are_not_logged(
    bench: Bench, header: tuple[bytes, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        trace, _ = bench.requests.begin("GET", "/", [(b"traceparent", SAMPLED), header], "http", "x")
    assert trace is not None
    trace.begin_queue(Lane.INTERACTIVE, 1.0)
    assert len(str(trace.carrier)) < 300
    assert [record for record in caplog.records if record.name.startswith("opentelemetry")] == []
    trace.end("GET", "/", 200, "")


def test_before_its_start_nothing_is_traced() -> None:
    headers = [(b"traceparent", SAMPLED)]

    assert RequestTracing(lambda: 1.0).begin("GET", "/", headers, "http", "x") == (None, {})
