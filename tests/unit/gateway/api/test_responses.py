import asyncio
from dataclasses import replace
from typing import Any

import orjson
import pytest

from gateway.api.predictions import BLOCK_VALUES, encoded, predicted, written
from gateway.api.responses import job_response, job_view, server_timing, timing
from gateway.catalog.served_model import Outputs, keyed, outputs_of
from gateway.errors import RecordDamaged
from gateway.fairness.answers import PIECE_BYTES, AnswerBudget
from gateway.fairness.turns import OwnerTurns
from gateway.jobs.outcome_text import BLOCK_BYTES
from gateway.web.request_context import RequestContext
from shared.queue.contract import JobStatus
from shared.queue.replies import as_text
from tests.support.coroutines import run, turns
from tests.support.job_records import ENDED, QUEUED, RUNNING
from tests.support.manifests import classifier, regressor

RESULT: dict[str, Any] = {"predictions": ["long"], "probabilities": [[0.25, 0.75]]}
OUTCOME: dict[str, Any] = {**RESULT, "outputs": [["prediction", ["short", "long"]]]}


def succeeded(outcome: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """The answer with a job that has this outcome."""
    job = replace(ENDED, status=JobStatus.SUCCEEDED, outcome_json=orjson.dumps(outcome), **fields)
    view: dict[str, Any] = orjson.loads(run(job_response(job, 200, RequestContext())).body)
    return view


@pytest.mark.parametrize(
    ("seconds", "milliseconds"),
    [
        ((0.0012344, 0.00004, 0.002), (1.234, 0.04, 2.0)),
        # The start was read from another clock, a little behind.
        ((-0.0001, 0.001, 0.002), (0.0, 1.0, 2.0)),
        ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0)),
    ],
)
def test_timing_is_in_milliseconds(seconds: tuple[float, float, float], milliseconds: tuple[float, ...]) -> None:
    assert tuple(timing(*seconds).values()) == pytest.approx(milliseconds, abs=0.001)
    assert list(timing(*seconds)) == ["queue_ms", "compute_ms", "total_ms"]


@pytest.mark.parametrize("total_seconds", [-1.0, 0.0, 0.0003, 0.0123456, 2.5])
@pytest.mark.parametrize("compute_seconds", [0.0, 0.0001, 0.0123453, 7.0])
@pytest.mark.parametrize("queue_seconds", [-3600.0, 0.0, 0.0000004, 0.0024, 3600.0])
def test_queue_and_compute_are_never_more_than_the_total(
    queue_seconds: float, compute_seconds: float, total_seconds: float
) -> None:
    parts = timing(queue_seconds, compute_seconds, total_seconds)

    assert min(parts.values()) >= 0
    assert parts["queue_ms"] + parts["compute_ms"] <= parts["total_ms"]


def test_a_broker_whose_clock_was_set_back_gives_a_job_no_negative_times() -> None:
    view = job_view(replace(ENDED, status=JobStatus.FAILED, ended_at=ENDED.accepted_at - 60, outcome_json=b"{}"))

    assert view["timing"] == {"queue_ms": 0.0, "compute_ms": 0.0, "total_ms": 0.0}


def test_the_header_says_the_same_as_the_body() -> None:
    assert server_timing(timing(0.001, 0.0005, 0.25)) == "queue;dur=1.0, compute;dur=0.5, total;dur=250.0"


def test_one_row_gets_a_flat_answer() -> None:
    assert predicted(outputs_of(classifier()), RESULT, single=True) == {
        "prediction": "long",
        "probabilities": {"short": 0.25, "long": 0.75},
    }


def test_instances_get_lists_in_their_order() -> None:
    result = {"predictions": ["long", "short"], "probabilities": [[0.25, 0.75], [1.0, 0.0]]}

    assert predicted(outputs_of(classifier()), result, single=False) == {
        "predictions": ["long", "short"],
        "probabilities": [{"short": 0.25, "long": 0.75}, {"short": 1.0, "long": 0.0}],
    }


@pytest.mark.parametrize(("classes", "names"), [((-1, 1), ["-1", "1"]), ((False, True), ["false", "true"])])
def test_classes_that_are_no_text_become_names(classes: tuple[Any, ...], names: list[str]) -> None:
    answer = predicted(outputs_of(classifier(classes=classes)), {**RESULT, "predictions": [classes[1]]}, single=True)

    assert answer["prediction"] is classes[1]
    assert list(answer["probabilities"]) == names


@pytest.mark.parametrize("manifest", [regressor(), classifier(probabilities=False)])
def test_without_probabilities_there_is_no_such_member(manifest: Any) -> None:
    assert predicted(outputs_of(manifest), {"predictions": [0.5], "probabilities": None}, single=True) == {
        "prediction": 0.5
    }


def test_of_a_queued_job_only_what_has_happened_is_said() -> None:
    assert job_view(QUEUED) == {
        "id": "j1",
        "status": "queued",
        "model": "sticks",
        "version": "v1",
        "attempt": 0,
        "accepted_at": "2026-11-18T11:06:40.123Z",
    }


def test_a_running_job_has_started() -> None:
    view = job_view(RUNNING)

    assert view["started_at"] == "2026-11-18T11:06:41.000Z"
    assert not {"ended_at", "timing", "result", "error"} & set(view)


def test_a_job_that_succeeded_has_its_result_and_its_timing() -> None:
    view = succeeded(OUTCOME, compute_seconds=0.5)

    assert view["result"] == {"prediction": "long", "probabilities": {"short": 0.25, "long": 0.75}}
    assert view["ended_at"] == "2026-11-18T11:06:43.500Z"
    assert view["timing"] == pytest.approx({"queue_ms": 876.6, "compute_ms": 500.0, "total_ms": 3376.6}, abs=0.01)
    assert "error" not in view


def test_a_job_of_instances_has_lists() -> None:
    assert succeeded(OUTCOME, single=False)["result"]["predictions"] == ["long"]


def test_a_job_that_failed_says_why() -> None:
    error = {"code": "worker_lost", "message": "every attempt ended with its worker", "rows": []}

    view = job_view(replace(ENDED, status=JobStatus.FAILED, outcome_json=orjson.dumps({"error": error})))

    assert view["error"] == error
    assert "result" not in view
    assert view["timing"]["compute_ms"] == 0.0


@pytest.mark.parametrize("status", [JobStatus.CANCELLED, JobStatus.EXPIRED])
def test_a_job_that_never_ran_spent_all_its_time_in_the_queue(status: JobStatus) -> None:
    view = job_view(replace(QUEUED, status=status, ended_at=QUEUED.accepted_at + 2, outcome_json=b"{}"))

    assert view["timing"] == pytest.approx({"queue_ms": 2000.0, "compute_ms": 0.0, "total_ms": 2000.0})
    assert not {"started_at", "result", "error"} & set(view)


SEVERAL: Outputs = keyed([("kind", ["short", "long"]), ("broken", [False, True])])
TWO_ROWS: dict[str, Any] = {
    "predictions": [["long", False], ["short", True]],
    "probabilities": [[[0.25, 0.75], [0.875, 0.125]], [[1.0, 0.0], [0.0, 1.0]]],
}
FIRST = {"kind": "long", "broken": False}
FIRST_PROBABILITIES = {"kind": {"short": 0.25, "long": 0.75}, "broken": {"false": 0.875, "true": 0.125}}


def test_several_outputs_are_an_object_by_output() -> None:
    answer = predicted(SEVERAL, TWO_ROWS, single=False)

    assert answer["predictions"] == [FIRST, {"kind": "short", "broken": True}]
    assert answer["probabilities"] == [
        FIRST_PROBABILITIES,
        {"kind": {"short": 1.0, "long": 0.0}, "broken": {"false": 0.0, "true": 1.0}},
    ]


def test_several_outputs_of_one_row_are_one_object() -> None:
    result = {name: rows[:1] for name, rows in TWO_ROWS.items()}

    assert predicted(SEVERAL, result, single=True) == {"prediction": FIRST, "probabilities": FIRST_PROBABILITIES}


def test_several_numbers_have_no_probabilities() -> None:
    result = {"predictions": [[0.5, 2]], "probabilities": None}

    assert predicted([("a", None), ("b", None)], result, single=True) == {"prediction": {"a": 0.5, "b": 2}}


def test_a_worker_that_says_another_number_of_outputs_is_noticed() -> None:
    with pytest.raises(ValueError, match="zip"):
        predicted(SEVERAL, {"predictions": [["long"]], "probabilities": None}, single=True)


def test_a_job_names_its_outputs_itself_whatever_became_of_the_model() -> None:
    outcome = {**TWO_ROWS, "outputs": [list(output) for output in SEVERAL]}

    assert succeeded(outcome, single=False)["result"] == predicted(SEVERAL, TWO_ROWS, single=False)


def predicted_alone(classes: list[Any], shares: list[float]) -> Any:
    result = {"predictions": [classes[0]], "probabilities": [shares]}
    return predicted(keyed([("prediction", classes)]), result, single=True)["probabilities"]


@pytest.mark.parametrize("classes", [["a"], ["a", "b"], ['quo"te', "Straße", "True"], [0, 1], [False, True]])
def test_many_rows_are_written_as_few_are(classes: list[Any]) -> None:
    shares = [[i / 7 + at for at, _ in enumerate(classes)] for i in range(1_000)]
    result = {"predictions": [classes[0]] * 1_000, "probabilities": shares}

    many = orjson.loads(orjson.dumps(predicted(keyed([("prediction", classes)]), result, single=False)))

    assert many["predictions"] == result["predictions"]
    assert many["probabilities"] == [predicted_alone(classes, row) for row in shares]
    with pytest.raises(ValueError, match="one probability per class"):
        predicted(keyed([("prediction", [*classes, "more"])]), result, single=False)


ONE_OUTPUT: Outputs = [("prediction", ["short", "long"])]


@pytest.mark.parametrize(
    ("outputs", "row"),
    [
        ([("prediction", None)], (0.1, None)),
        (ONE_OUTPUT, ("long", [0.25, 0.75])),
        ([("a", None), ("b", None)], ([0.5, 2], None)),
        (SEVERAL, (["long", False], [[0.25, 0.75], [0.875, 0.125]])),
    ],
)
@pytest.mark.parametrize("rows", [1, 17, BLOCK_VALUES - 1, BLOCK_VALUES + 1, 2 * BLOCK_VALUES])
def test_many_values_are_written_in_blocks_and_read_as_if_at_once(outputs: Outputs, row: Any, rows: int) -> None:
    prediction, shares = row
    result = {"predictions": [prediction] * rows, "probabilities": None if shares is None else [shares] * rows}

    at_once = predicted(outputs, result, single=False)
    assert encoded(run(written(outputs, result))) == orjson.dumps(at_once)
    if len(outputs) == 1 and result["probabilities"]:
        # A worker sends the probabilities of many rows as text.
        text = {**result, "probabilities": as_text(result["probabilities"])}
        assert encoded(run(written(outputs, text))) == orjson.dumps(at_once)
    # An outcome, which is read in blocks of its text.
    outcome = {**result, "outputs": outputs}
    assert succeeded(outcome, single=False)["result"] == orjson.loads(orjson.dumps(at_once))


@pytest.mark.parametrize("numbers", [0, 1, -1, 3])
@pytest.mark.parametrize("rows", [2, 2 * BLOCK_VALUES])
def test_a_text_without_one_probability_per_class_is_no_result(numbers: int, rows: int) -> None:
    text = ",".join(["0.5"] * (2 * rows + numbers if numbers else 0))
    result = {"predictions": ["long"] * rows, "probabilities": text}

    with pytest.raises(ValueError, match="one probability"):
        run(written(ONE_OUTPUT, result))


@pytest.mark.parametrize("form", [list, as_text])
def test_others_have_their_turn_while_many_values_are_written(form: Any) -> None:
    result = {"predictions": ["long"] * BLOCK_VALUES, "probabilities": form([[0.25, 0.75]] * BLOCK_VALUES)}
    blocks = 0

    async def scenario() -> None:
        nonlocal blocks
        writing = asyncio.ensure_future(written(ONE_OUTPUT, result))
        while not writing.done():
            await asyncio.sleep(0)
            blocks += 1

    run(scenario())
    assert blocks >= 3


def test_others_have_their_turn_while_a_large_outcome_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    result = {"predictions": ["long"] * BLOCK_BYTES, "probabilities": [[0.25, 0.75]] * BLOCK_BYTES}
    text = orjson.dumps({**result, "outputs": ONE_OUTPUT})
    job = replace(ENDED, status=JobStatus.SUCCEEDED, single=False, outcome_json=text)
    parsed, blocks, loads = [], 0, orjson.loads

    def noted(part: bytes) -> Any:
        parsed.append(len(part))
        return loads(part)

    async def scenario() -> None:
        nonlocal blocks
        answering = asyncio.ensure_future(job_response(job, 200, RequestContext()))
        while not answering.done():
            await asyncio.sleep(0)
            blocks += 1

    monkeypatch.setattr(orjson, "loads", noted)
    run(scenario(), 60)
    assert max(parsed) < 2 * BLOCK_BYTES
    assert blocks >= len(text) // (2 * BLOCK_BYTES)


@pytest.mark.parametrize("members", [b"[0.5,", b"[0.5]]", b'["]'])
def test_a_large_outcome_that_is_damaged_is_noticed(members: bytes) -> None:
    text = b'{"predictions":%b,"probabilities":null,"outputs":[["a",null]]}' % (b" " * BLOCK_BYTES + members)
    job = replace(ENDED, status=JobStatus.SUCCEEDED, single=False, outcome_json=text)

    with pytest.raises(RecordDamaged):
        run(job_response(job, 200, RequestContext()))


def test_large_answers_are_written_one_at_a_time_and_small_ones_at_once() -> None:
    rows = PIECE_BYTES // 4
    large = {"predictions": ["long"] * rows, "probabilities": None, "outputs": [["prediction", ["short", "long"]]]}

    def answered(outcome: dict[str, Any], budget: AnswerBudget) -> "asyncio.Future[Any]":
        job = replace(ENDED, status=JobStatus.SUCCEEDED, single=False, outcome_json=orjson.dumps(outcome))
        context = RequestContext(answers=budget)
        context.hold_answer(len(job.outcome_json or b""))
        return asyncio.ensure_future(job_response(job, 200, context))

    async def scenario() -> None:
        budget = AnswerBudget(10 * PIECE_BYTES, lambda _: None, OwnerTurns().of)
        async with budget.turn_of("another"):
            waiting, small = answered(large, budget), answered(OUTCOME, budget)
            await turns()
            assert (waiting.done(), small.done()) == (False, True)
        assert len(orjson.loads((await waiting).body)["result"]["predictions"]) == rows

    run(scenario())
