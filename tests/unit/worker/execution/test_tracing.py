import json
from collections.abc import Iterator
from typing import Any

import pytest
from celery.exceptions import SoftTimeLimitExceeded
from fakeredis import FakeServer
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from headrace.models.store import ModelStore
from shared.observability.tracing import Tracing
from shared.queue.contract import RunJobsMessage
from tests.unit.worker.execution.test_batch_runner import HIGH, LOW, REPLY_TO, Bench
from worker.execution.tracing import ChildTracing


def carrier(letter: str, sampled: bool = True) -> dict[str, str]:
    return {"traceparent": f"00-{letter * 32}-{letter * 16}-0{int(sampled)}"}


class Traced(Bench):
    """The batch runner of a pool child whose spans are kept in memory."""

    def __init__(self, store: ModelStore, broker: FakeServer) -> None:
        super().__init__(store, broker)
        self.exporter = InMemorySpanExporter()
        self.tracing = ChildTracing(self.runner._clock.now)
        self.tracing._tracing.close()
        self.tracing._tracing = Tracing("worker", self.exporter)
        self.runner._tracing = self.tracing

    def spans(self) -> list[Any]:
        """Return the exported spans by name and then by trace."""
        self.tracing.close()
        return sorted(self.exporter.get_finished_spans(), key=lambda span: (span.name, span.context.trace_id))


@pytest.fixture
def bench(puppet_store: ModelStore, broker: FakeServer) -> Iterator[Traced]:
    bench = Traced(puppet_store, broker)
    yield bench
    bench.tracing.close()


def trace_of(span: Any) -> str:
    return f"{span.context.trace_id:032x}"[0]


def test_a_batch_is_in_the_first_trace_and_linked_to_all(bench: Traced) -> None:
    bench.runner.predict(bench.message([LOW], [HIGH], [LOW]), {"0": carrier("a"), "2": carrier("c")})

    of_a, of_c, batch = bench.spans()
    assert [trace_of(span) for span in (of_a, of_c, batch)] == ["a", "c", "a"]
    assert (batch.name, of_a.name, of_c.name) == ("process interactive", "predict puppet", "predict puppet")
    assert [f"{link.context.trace_id:032x}"[0] for link in batch.links] == ["a", "c"]
    assert batch.parent.span_id == int("a" * 16, 16)
    assert of_a.parent.span_id == batch.context.span_id
    assert of_c.parent.span_id == int("c" * 16, 16)
    assert [link.context.span_id for link in of_c.links] == [batch.context.span_id]

    reply = bench.reply()
    assert batch.start_time == round(reply.started_at * 1e9)
    for span in (of_a, of_c):
        assert (span.end_time - span.start_time) / 1e9 == pytest.approx(reply.compute_seconds, abs=1e-6)
        assert batch.start_time <= span.start_time and span.end_time <= batch.end_time


def test_a_call_past_its_deadline_has_no_part_in_the_batch(bench: Traced) -> None:
    message = bench.message([LOW], [HIGH])
    late = message.calls[0]._replace(deadline=0.0)
    message = message.model_copy(update={"calls": [late, message.calls[1]]})

    bench.runner.predict(message, {"0": carrier("a"), "1": carrier("b")})

    assert {trace_of(span) for span in bench.spans()} == {"b"}


def test_whatever_the_header_says_the_batch_is_answered(bench: Traced) -> None:
    parts = [None, {}, {"traceparent": "sesame"}, {"traceparent": 5}, carrier("a", sampled=False)]
    headers: list[Any] = [None, {}, [], "sesame", *({"0": part} for part in parts)]
    headers += [{at: carrier("a")} for at in ("x", "-1", "7", "²")]
    for header in headers:
        bench.runner.predict(bench.message([LOW]), header)

    assert bench.redis.xlen(REPLY_TO) == len(headers)
    assert bench.spans() == []


def test_a_batch_that_ran_out_of_time_is_an_error(bench: Traced, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(*_: Any) -> None:
        raise SoftTimeLimitExceeded

    monkeypatch.setattr("worker.execution.batch_runner.predict_calls", hang)
    with pytest.raises(SoftTimeLimitExceeded):
        bench.runner.predict(bench.message([LOW]), {"0": carrier("a")})

    [batch] = bench.spans()
    assert (batch.name, batch.attributes["error.type"]) == ("process interactive", "SoftTimeLimitExceeded")


def test_jobs_of_a_task_are_seen_from_each_submission(bench: Traced) -> None:
    bench.submit("a", [LOW], trace=json.dumps(carrier("a")))
    bench.submit("b", [HIGH])
    bench.submit("c", [HIGH], trace=json.dumps(carrier("c")))

    bench.runner.run_jobs(RunJobsMessage(jobs=["a", "b", "c"]), False, "bulk")

    spans = bench.spans()
    assert [(span.name, trace_of(span)) for span in spans] == [
        ("predict puppet", "a"),
        ("predict puppet", "c"),
        ("process bulk", "a"),
        ("queue bulk", "a"),
        ("queue bulk", "c"),
    ]
    for queue, job in zip(spans[-2:], "ac", strict=True):
        assert (queue.attributes["headrace.job_id"], queue.attributes["headrace.attempt"]) == (job, 1)
        accepted_at, started_at = map(float, bench.redis.hmget(f"headrace:job:{job}", "accepted_at", "started_at"))
        assert (queue.start_time, queue.end_time) == (round(accepted_at * 1e9), round(started_at * 1e9))


def test_a_trace_that_can_not_be_read_is_none(bench: Traced) -> None:
    bench.submit("a", [LOW], trace="[]")

    bench.runner.run_jobs(RunJobsMessage(jobs=["a"]), False, "bulk")

    assert bench.job("a")[0] == "succeeded"
    assert bench.spans() == []
