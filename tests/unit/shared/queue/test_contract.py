import json
from typing import Any

import pytest
from pydantic import ValidationError

from shared.queue.contract import (
    CALLS_MAX,
    CONTRACT_VERSION,
    JOBS_MAX,
    OUTCOMES,
    BatchReply,
    Call,
    JobStatus,
    Lane,
    Message,
    PredictMessage,
    RunJobsMessage,
    ShadowMessage,
    queue_name,
)
from shared.queue.heartbeat import ChildHeartbeat, Heartbeat

PREDICT = PredictMessage(
    batch=7,
    reply_to="headrace:replies:g",
    model="iris",
    version="v1",
    calls=[Call(2, 1_795_000_000.123456, 1_795_000_005.5), Call(1, 0.0, 0.5)],
    rows=[[5.1, 3.5], [1, -0.0], [1e-300, 1e300]],
    probe=True,
)
RUN_JOBS = RunJobsMessage(jobs=["a", "b"])
SHADOW = ShadowMessage(
    model="iris",
    version="v2",
    primary="v1",
    rows=[[5.1, None, "rot", True], [1, -0.0, "", False]],
    predictions=["setosa", [1, 1.5]],
)
REPLY = BatchReply(
    batch=7,
    started_at=1.5,
    compute_seconds=0.25,
    results=[
        {"predictions": ["setosa", 1, 1.5, True], "probabilities": [[0.25, 0.75]]},
        {"error": {"code": "time_limit", "message": "…", "rows": [0]}},
    ],
)
MESSAGES = [PREDICT, RUN_JOBS, SHADOW, REPLY]
each_message = pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)


def changed(message: Message, **members: Any) -> str:
    return json.dumps({**json.loads(message.to_json()), **members})


@each_message
def test_a_message_arrives_as_it_was_sent(message: Message) -> None:
    assert type(message).from_json(message.to_json()) == message


def test_calls_travel_as_short_lists_and_arrive_with_names() -> None:
    assert json.loads(PREDICT.to_json())["calls"][1] == [1, 0.0, 0.5, True, False]
    assert PredictMessage.from_json(PREDICT.to_json()).calls[1].deadline == 0.5


@each_message
def test_a_message_says_its_version(message: Message) -> None:
    assert json.loads(message.to_json())["v"] == CONTRACT_VERSION


@each_message
@pytest.mark.parametrize("version", [0, 1, 99, -1, "2", None, [2]])
def test_a_message_of_another_contract_version_is_refused(message: Message, version: Any) -> None:
    with pytest.raises(ValidationError, match=r"v\n.*Input should be 2"):
        type(message).from_json(changed(message, v=version))


@each_message
def test_an_unknown_field_is_refused(message: Message) -> None:
    with pytest.raises(ValidationError, match="surprise"):
        type(message).from_json(changed(message, surprise=1))


@pytest.mark.parametrize(("message", "field"), [(message, field) for message in MESSAGES for field in vars(message)])
def test_a_missing_field_is_refused_unless_it_has_a_default(message: Message, field: str) -> None:
    content = json.loads(message.to_json())
    del content[field]
    if field in ("v", "probe"):
        assert getattr(type(message).model_validate(content), field) in (CONTRACT_VERSION, False)
        return
    with pytest.raises(ValidationError, match=field):
        type(message).model_validate(content)


@pytest.mark.parametrize("calls", [[[1, 2.0]], [[1, 2.0, 3.0, 4.0]], [[1.5, 2.0, 3.0]], [{}], [1], 1])
def test_calls_of_another_shape_are_refused(calls: Any) -> None:
    with pytest.raises(ValidationError, match="calls"):
        PredictMessage.from_json(changed(PREDICT, calls=calls))


@pytest.mark.parametrize(
    "members",
    [
        {"batch": -1},
        {"batch": 2**63},
        {"batch": "9" * 4000},
        {"reply_to": "headrace:jobs:open"},
        {"reply_to": "bulk"},
        {"reply_to": ""},
        {"model": "m" * 65},
        {"version": "v" * 100_000},
        {"calls": [[0, 0.0, 1.0]]},
        {"calls": [[-1, 0.0, 1.0], [4, 0.0, 1.0]]},
        {"calls": [[3, "-inf", 1.0]]},
        {"calls": [[3, 0.0, "nan"]]},
    ],
)
def test_a_member_that_no_gateway_writes_is_refused(members: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        PredictMessage.from_json(changed(PREDICT, **members))


@pytest.mark.parametrize("payload", ["", "{", "[]", "null", '{"v":2}', "[" * 100_000, '"\\ud800"', b"\xff"])
def test_what_is_no_message_is_a_value_error(payload: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        PredictMessage.from_json(payload)


def test_outcomes_are_the_statuses_that_are_neither_queued_nor_running() -> None:
    assert set(OUTCOMES) == set(JobStatus) - {JobStatus.QUEUED, JobStatus.RUNNING}


def test_lanes_are_the_names_of_redis_lists_for_ever() -> None:
    """A renamed lane would leave the entries in its queue behind at the next update."""
    assert [lane.value for lane in Lane] == ["interactive", "bulk"]


def test_workers_that_are_pinned_to_a_model_have_lists_of_their_own() -> None:
    """Renamed lists would leave their entries behind too."""
    assert [queue_name(lane, "") for lane in Lane] == ["interactive", "bulk"]
    assert [queue_name(lane, "iris") for lane in Lane] == ["interactive.iris", "bulk.iris"]


@pytest.mark.parametrize(
    ("message", "change"),
    [
        *((REPLY, {"compute_seconds": seconds}) for seconds in (-1e308, -1e-9, 1e7, 1e308)),
        *((REPLY, {"started_at": at}) for at in (-1.0, 1e11, 1e308)),
        *((REPLY, {"batch": batch}) for batch in (-1, 2**63)),
        *(
            (PREDICT, {"calls": [call]})
            for call in ([0, 0.0, 1.0], [2**31, 0.0, 1.0], [1, -1e308, 1.0], [1, 0.0, 1e308])
        ),
        (PREDICT, {"calls": [[1, 0.0, 1.0]] * (CALLS_MAX + 1)}),
        (RUN_JOBS, {"jobs": ["job"] * (JOBS_MAX + 1)}),
    ],
    ids=lambda each: str(each)[:40],
)
def test_numbers_and_lists_have_bounds(message: Message, change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(change))):
        type(message).from_json(changed(message, **change))


@pytest.mark.parametrize("beat", [Heartbeat, ChildHeartbeat])
@pytest.mark.parametrize("at", [-1.0, 1e11, 1e308])
def test_the_time_of_a_heartbeat_has_bounds(beat: Any, at: float) -> None:
    with pytest.raises(ValidationError, match="at"):
        beat(at=at, slots=1)
