"""Traces over real processes: the spans of requests and jobs in a collector, and service without one."""

import secrets
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import NewStack
from tests.support.collector import Collector, Seen, collecting
from tests.support.processes import free_port, wait_for
from tests.support.puppet import Act
from tests.support.stack import Stack

ANSWER = {"value": 1.0, "act": Act.ANSWER}
ROUNDED_MS = 0.002
"""Milliseconds by which times may differ.

The answer's times are rounded, and those of spans are sums of rounded ones.
"""

Trace = tuple[str, dict[str, str]]


def new_trace(sampled: bool = True) -> Trace:
    """Return the id of a caller's trace, and the headers that carry it."""
    trace_id = secrets.token_hex(16)
    return trace_id, {"traceparent": f"00-{trace_id}-{secrets.token_hex(8)}-0{int(sampled)}"}


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


@pytest.fixture(scope="module")
def traced(collector: Collector, puppet_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("traced")
    stack = Stack(
        folder,
        puppet_models,
        DEFAULT_MODEL="puppet",
        PUPPET_FOLDER=str(folder),
        # A single slot, so that requests which arrive while it is taken leave in one batch.
        WORKER_CONCURRENCY="1",
        # However slow the model seems, the rows leave together.
        BATCH_COMPUTE_TARGET_SECONDS="10",
        # A job of a dead process runs again soon.
        TASK_SOFT_TIME_LIMIT_SECONDS="8",
        TASK_TIME_LIMIT_SECONDS="9",
        JOB_CHECK_SECONDS="0.5",
        TRACING="true",
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint,
        OTEL_BSP_SCHEDULE_DELAY="50",
    )
    try:
        yield stack.start()
    finally:
        stack.close()


def spans(collector: Collector, trace_id: str, *names: str) -> list[Seen]:
    """Return the spans of a trace once all of these are there, in the order of the names."""

    def all_of_them() -> list[Seen] | None:
        found = collector.of_trace(trace_id)
        return found if sorted(span.name for span in found) == sorted(names) else None

    by_name = {span.name: span for span in wait_for(f"{names} of {trace_id}", all_of_them)}
    return [by_name[name] for name in names]


def assert_waited(queue: Seen, timing: dict[str, float]) -> None:
    """Compare the span of a wait with the answer, which bounds the wait where the broker's clock was read badly."""
    if timing["total_ms"] - timing["compute_ms"] - timing["queue_ms"] > ROUNDED_MS:
        assert queue.ms == pytest.approx(timing["queue_ms"], abs=ROUNDED_MS)
    else:
        assert queue.ms > timing["queue_ms"] - ROUNDED_MS


INTERACTIVE = ("POST /predict", "queue interactive", "process interactive", "predict puppet")


def test_one_trace_from_the_caller_to_the_estimator(traced: Stack, collector: Collector) -> None:
    trace_id, headers = new_trace()

    answer = traced.predict(ANSWER, headers={**headers, "X-Request-ID": "mine"}).json()

    server, queue, batch, predict = spans(collector, trace_id, *INTERACTIVE)
    assert [span.kind for span in (server, queue, batch, predict)] == ["SERVER", "PRODUCER", "CONSUMER", "INTERNAL"]
    assert [span.service for span in (server, batch)] == ["headrace-gateway", "headrace-worker"]
    assert server.parent_id == headers["traceparent"].split("-")[2]
    assert [span.parent_id for span in (queue, batch, predict)] == [server.span_id, queue.span_id, batch.span_id]
    assert batch.links == [(trace_id, queue.span_id)]

    timing = answer["timing"]
    assert queue.ms == pytest.approx(timing["queue_ms"], abs=ROUNDED_MS)
    assert predict.ms == pytest.approx(timing["compute_ms"], abs=ROUNDED_MS)
    assert {name: server.attributes[f"headrace.{name}"] for name in timing} == timing
    assert server.start <= queue.start <= queue.end <= predict.start
    assert queue.end == pytest.approx(batch.start, abs=1000)
    # Clocks of two processes, compared through the broker, whose answer may take a while.
    assert predict.end <= server.end + 50e6

    assert server.attributes["http.route"] == server.attributes["url.path"] == "/predict"
    assert server.attributes["http.response.status_code"] == 200
    assert server.attributes["headrace.request_id"] == "mine"
    assert (server.attributes["headrace.model"], batch.attributes["headrace.model"]) == ("puppet", "puppet")
    assert not any(span.error for span in (server, queue, batch, predict))


def test_requests_of_one_batch_are_linked_and_each_sees_its_own_split(traced: Stack, collector: Collector) -> None:
    traces = [new_trace() for _ in range(3)]
    ask: Callable[[Trace], Any] = lambda trace: traced.predict(ANSWER, headers=trace[1]).json()  # noqa: E731

    traced.wait_idle()
    with ThreadPoolExecutor(4) as pool:
        slow = pool.submit(traced.predict, {"value": 3.0, "act": Act.SLEEP})
        traced.wait_computing(1)
        answers = list(pool.map(ask, traces))
        assert slow.result().status_code == 200

    ids = [trace_id for trace_id, _ in traces]
    # Three each, and the batch itself is in one of the traces.
    wait_for("all spans", lambda: sum(len(collector.of_trace(trace_id)) for trace_id in ids) == 10)
    [batch] = [span for trace_id in ids for span in collector.of_trace(trace_id) if span.kind == "CONSUMER"]
    assert sorted(trace_id for trace_id, _ in batch.links) == sorted(ids)
    assert batch.attributes["messaging.batch.message_count"] == 3
    for (trace_id, _), answer in zip(traces, answers, strict=True):
        by_name = {span.name: span for span in collector.of_trace(trace_id)}
        queue, predict = by_name["queue interactive"], by_name["predict puppet"]
        assert queue.ms == pytest.approx(answer["timing"]["queue_ms"], abs=ROUNDED_MS)
        assert predict.ms == pytest.approx(answer["timing"]["compute_ms"], abs=ROUNDED_MS)
        assert (trace_id, queue.span_id) in batch.links
        if trace_id == batch.trace_id:
            assert (batch.parent_id, predict.parent_id) == (queue.span_id, batch.span_id)
        else:
            assert predict.parent_id == queue.span_id
            assert predict.links == [(batch.trace_id, batch.span_id)]


def test_a_failed_request_is_an_error_in_its_trace(traced: Stack, collector: Collector) -> None:
    trace_id, headers = new_trace()
    assert traced.predict({"value": 1.0, "act": Act.EXHAUST_MEMORY}, headers=headers).status_code == 500
    server, *_ = spans(collector, trace_id, *INTERACTIVE)
    assert (server.error, server.attributes["error.type"]) == (True, "prediction_failed")

    trace_id, headers = new_trace()
    assert traced.predict({"value": 1.0, "act": Act.RAISE}, headers=headers).status_code == 422
    server, *_ = spans(collector, trace_id, *INTERACTIVE)
    assert (server.error, server.attributes["error.type"]) == (False, "row_rejected")

    trace_id, headers = new_trace()
    assert traced.predict({"value": "sesame", "act": 0}, headers=headers).status_code == 422
    [server] = spans(collector, trace_id, "POST /predict")
    assert (server.error, server.attributes["error.type"]) == (False, "invalid_rows")


def test_what_the_caller_does_not_sample_is_not_exported(traced: Stack, collector: Collector) -> None:
    unsampled, headers = new_trace(sampled=False)
    assert traced.predict(ANSWER, headers=headers).status_code == 200
    assert traced.outcome(traced.submit(ANSWER, headers=headers))["status"] == "succeeded"

    # Later spans are there, so this one would be too.
    after, headers = new_trace()
    assert traced.predict(ANSWER, headers=headers).status_code == 200
    spans(collector, after, *INTERACTIVE)
    assert collector.of_trace(unsampled) == []


def test_probes_are_not_traced(traced: Stack, collector: Collector) -> None:
    probed, headers = new_trace()
    for path in ("/readyz", "/livez", "/health", "/metrics"):
        assert traced.http.get(path, headers=headers).status_code == 200
    after, headers = new_trace()
    assert traced.http.get("/models", headers=headers).status_code == 200
    spans(collector, after, "GET /models")
    assert collector.of_trace(probed) == []


BULK = ("POST /jobs", "send bulk", "queue bulk", "process bulk", "predict puppet")


def test_the_run_of_a_job_is_in_the_trace_of_its_submission(traced: Stack, collector: Collector) -> None:
    trace_id, headers = new_trace()

    job = traced.outcome(traced.submit(ANSWER, headers=headers))

    server, send, queue, run, predict = spans(collector, trace_id, *BULK)
    assert [span.parent_id for span in (send, queue, run)] == [server.span_id, send.span_id, send.span_id]
    assert predict.parent_id == run.span_id
    assert run.links == [(trace_id, send.span_id)]
    assert queue.ms == pytest.approx(job["timing"]["queue_ms"], abs=ROUNDED_MS)
    assert predict.ms == pytest.approx(job["timing"]["compute_ms"], abs=ROUNDED_MS)
    assert (queue.attributes["headrace.job_id"], queue.attributes["headrace.attempt"]) == (job["id"], 1)


def test_a_job_that_is_published_again_keeps_its_trace(traced: Stack, collector: Collector) -> None:
    trace_id, headers = new_trace()

    job = traced.outcome(traced.submit({"value": 7.0, "act": Act.DIE_ONCE}, headers=headers), 40)

    assert (job["status"], job["attempt"]) == ("succeeded", 2)
    # The spans of the first attempt are lost: its process was killed.
    _, send, queue, run, _ = spans(collector, trace_id, *BULK)
    assert queue.attributes["headrace.attempt"] == 2
    assert queue.ms == pytest.approx(job["timing"]["queue_ms"], abs=ROUNDED_MS)
    assert run.links == [(trace_id, send.span_id)]


def test_a_collector_that_is_down_costs_one_line_and_nothing_else(new_stack: NewStack, puppet_models: Path) -> None:
    stack = new_stack(
        puppet_models,
        DEFAULT_MODEL="puppet",
        WORKER_CONCURRENCY="1",
        TRACING="true",
        OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{free_port()}",
        OTEL_EXPORTER_OTLP_TIMEOUT="1",
        OTEL_BSP_SCHEDULE_DELAY="20",
    ).start()
    processes = (stack.gateway, stack.workers[0])

    def lines(text: str) -> list[int]:
        return [process.log().count(text) for process in processes]

    def predicted_until(probe: Callable[[], bool]) -> bool:
        assert stack.predict(ANSWER).status_code == 200
        return probe()

    wait_for("both say so", lambda: predicted_until(lambda: lines("spans are lost") == [1, 1]))
    for _ in range(20):
        assert stack.predict(ANSWER).status_code == 200
    for process in processes:
        # uvicorn ends with the signal that it was given.
        assert process.stop(15) in (0, -signal.SIGTERM)
    assert lines("spans are lost") == [1, 1]
    assert lines("opentelemetry") == [0, 0]
    assert lines("Traceback") == [0, 0]
