"""The census notices what it is there to notice."""

from typing import Any

import orjson
import pytest
from fakeredis import FakeRedis

from shared.queue import keys
from tests.chaos.census import Census

JOB_IDS = [f"00000000-0000-0000-0000-{number:012}" for number in range(20)]


@pytest.fixture
def redis() -> Any:
    redis: Any = FakeRedis()
    for number, job_id in enumerate(JOB_IDS):
        redis.hset(keys.job(job_id), mapping=record(number))
    redis.set(keys.idempotency("1"), "no job")
    return redis


def record(answer: float, status: str = "succeeded", attempt: int = 1) -> dict[Any, Any]:
    return {"status": status, "attempt": attempt, "outcome": orjson.dumps({"predictions": [answer]})}


def census(redis: Any) -> Census:
    census = Census(redis, float)
    census.take(JOB_IDS)
    return census


def test_jobs_that_ended_as_they_should_are_counted(redis: Any) -> None:
    redis.hset(keys.job(JOB_IDS[3]), "attempt", 3)

    found = census(redis)
    assert (found.statuses, found.repeats, found.violations) == ({"succeeded": 20}, 2, [])


@pytest.mark.parametrize(
    ("change", "violation"),
    [
        (record(8.0), "I4: job 7: [8.0], not 7.0"),
        (record(7.0, "failed"), "I1: job 7 could have succeeded, and is failed"),
        ({"status": "queued"}, "I1: job 7 could have succeeded, and is queued"),
    ],
    ids=["another's answer", "failed", "open"],
)
def test_a_job_that_breaks_a_promise(redis: Any, change: dict[Any, Any], violation: str) -> None:
    redis.hset(keys.job(JOB_IDS[7]), mapping=change)

    [found] = census(redis).violations
    assert found.startswith(violation)


def test_an_accepted_job_that_is_unknown(redis: Any) -> None:
    redis.delete(keys.job(JOB_IDS[7]))

    assert [each[:2] for each in census(redis).violations] == ["I2", "I1"]


def test_a_job_that_nobody_submitted(redis: Any) -> None:
    redis.hset(keys.job("other"), mapping=record(1.0))

    assert census(redis).violations == [f"I1: nobody knows of {keys.job('other')}"]


def test_two_jobs_with_one_record(redis: Any) -> None:
    found = Census(redis, float)
    found.take([*JOB_IDS, JOB_IDS[0]])

    assert "I1: job 20 has no record of its own: " + JOB_IDS[0] in found.violations
