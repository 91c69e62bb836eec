import asyncio
import time
from typing import Any

import pytest
import redis

from gateway import readiness as module
from gateway.broker.stats import QueueStats
from gateway.readiness import ReadinessProbe
from headrace.models.manifest import Manifest
from shared.queue.broker_clock import BrokerClock
from shared.queue.contract import BatchReply, PredictMessage
from shared.queue.heartbeat import Heartbeat
from tests.support.coroutines import run, turns
from tests.support.manifests import classifier, regressor
from tests.unit.gateway.fakes import FakeBatchClient, FakeWorkers

GOOD = {"predictions": ["short"], "probabilities": [[1.0, 0.0]]}


LIMIT_SECONDS = 30.0
EXPIRED = {"error": {"code": "deadline_exceeded", "message": "x", "rows": []}}


class FakeMonitor:
    """State of the queue: a test sets the age of the oldest interactive entry."""

    oldest_seconds = 0.0

    async def refresh(self) -> QueueStats:
        """Return that state."""
        return QueueStats(broker_up=True, oldest_seconds_of={"interactive": self.oldest_seconds})


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.05)
    monkeypatch.setattr(module, "CHECK_SECONDS", 0.005)
    monkeypatch.setattr(module, "PUBLISHED_SECONDS", 0.0)


class Mine:
    """A readiness probe, and callers that ask it."""

    def __init__(self, manifest: Manifest | None = None, workers: FakeWorkers | None = None) -> None:
        self.batch_client = FakeBatchClient()
        self.clock = BrokerClock()
        self.workers = workers or FakeWorkers()
        self.monitor = FakeMonitor()
        self.probe = ReadinessProbe(
            lambda: manifest or classifier(),
            self.batch_client,
            self.workers,
            self.monitor,  # type: ignore[arg-type]
            self.clock,
            limit_seconds=LIMIT_SECONDS,
        )

    @property
    def sent(self) -> list[PredictMessage]:
        return self.batch_client.published

    def ask(self) -> "asyncio.Task[str | None]":
        return asyncio.create_task(self.probe.trouble())

    async def hear(self, result: dict[str, Any]) -> str | None:
        """Return the probe's answer when the worker answers with this result."""
        asked = self.ask()
        await turns()
        self.batch_client.answer(self.sent[-1], [result])
        return await asked


def test_the_right_answer_means_no_trouble() -> None:
    async def scenario() -> None:
        assert await Mine().hear(GOOD) is None

    run(scenario())


def test_it_is_a_sample_of_the_manifest_marked_as_no_traffic_with_a_deadline_of_its_own() -> None:
    async def scenario() -> None:
        mine = Mine()
        await mine.hear(GOOD)
        [message] = mine.sent
        assert message.probe
        assert message.rows == [classifier().samples[0].row]
        assert (message.model, message.version, message.reply_to) == ("sticks", "v1", mine.batch_client.reply_to)
        [call] = message.calls
        assert call.n_rows == 1
        assert call.deadline == pytest.approx(mine.clock.now() + module.ANSWER_SECONDS, abs=1)

    run(scenario())


@pytest.mark.parametrize(("pinned", "worker_group"), [("sticks", "sticks"), ("other", "")])
def test_it_takes_the_way_that_requests_for_the_model_take(pinned: str, worker_group: str) -> None:
    async def scenario() -> None:
        mine = Mine(workers=FakeWorkers(0, **{pinned: 1}))
        await mine.hear(GOOD)
        assert mine.batch_client.worker_groups == [worker_group]

    run(scenario())


def test_all_who_ask_at_a_time_share_one_probe() -> None:
    async def scenario() -> None:
        mine = Mine()
        asked = [mine.ask() for _ in range(5)]
        await turns()
        asked.append(mine.ask())
        await turns()
        assert len(mine.sent) == 1
        mine.batch_client.answer(mine.sent[0], [GOOD])
        assert await asyncio.gather(*asked) == [None] * 6

    run(scenario())


def test_one_who_goes_away_does_not_take_the_answer_from_the_others() -> None:
    async def scenario() -> None:
        mine = Mine()
        leaves, stays = mine.ask(), mine.ask()
        await turns()
        leaves.cancel()
        await turns()
        mine.batch_client.answer(mine.sent[0], [GOOD])
        assert await stays is None

    run(scenario())


def test_a_good_answer_is_good_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        mine = Mine()
        await mine.hear(GOOD)
        assert await mine.probe.trouble() is None
        assert len(mine.sent) == 1
        now = time.monotonic() + module.FRESH_SECONDS
        monkeypatch.setattr("gateway.readiness.time.monotonic", lambda: now)
        asked = mine.ask()
        await turns()
        assert len(mine.sent) == 2
        monkeypatch.undo()
        mine.batch_client.answer(mine.sent[1], [GOOD])
        assert await asked is None

    run(scenario())


def test_a_bad_answer_is_asked_again_at_once() -> None:
    async def scenario() -> None:
        mine = Mine()
        assert await mine.hear({"predictions": ["long"], "probabilities": None}) is not None
        assert await mine.hear(GOOD) is None
        assert len(mine.sent) == 2

    run(scenario())


@pytest.mark.parametrize("predictions", [["long"], [None], [], ["short", "short"], [0], ["Short"]])
def test_another_prediction_is_trouble(predictions: list[Any]) -> None:
    async def scenario() -> None:
        trouble = await Mine().hear({"predictions": predictions, "probabilities": None})
        assert trouble == "the worker answered another prediction"

    run(scenario())


@pytest.mark.parametrize(
    ("expected", "answer", "same"),
    [
        (0.1, 0.1, True),
        # A batch of one row, or another processor, may round the last bits otherwise.
        (0.1, 0.1 + 1e-15, True),
        (1e6, 1e6 + 0.1, True),
        (0.0, 1e-7, True),
        (3, 3.0000000001, True),
        (0.1, 0.1001, False),
        (0.0, 0.1, False),
        (0.1, None, False),
        (0.1, "0.1", False),
    ],
)
def test_numbers_may_differ_in_their_last_bits(expected: float, answer: Any, same: bool) -> None:
    async def scenario() -> None:
        trouble = await Mine(regressor(sample=expected)).hear({"predictions": [answer], "probabilities": None})
        assert (trouble is None) == same

    run(scenario())


def test_an_error_of_the_worker_is_trouble_and_named() -> None:
    async def scenario() -> None:
        error = {"code": "model_unavailable", "message": "x", "rows": []}
        assert await Mine().hear({"error": error}) == "the worker answered model_unavailable"

    run(scenario())


def test_no_answer_is_trouble_and_the_late_one_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.01)

    async def scenario() -> None:
        mine = Mine()
        assert await mine.probe.trouble() == "no answer through the queue within 0.01 s"
        assert not mine.batch_client._waiting
        monkeypatch.setattr(module, "ANSWER_SECONDS", 60.0)
        late = mine.sent[0]
        mine.batch_client.answer(late, [GOOD])
        asked = mine.ask()
        await turns()
        assert mine.sent[-1].batch != late.batch, "the late answer is not taken for that of the next one"
        mine.batch_client.answer(mine.sent[-1], [GOOD])
        assert await asked is None

    run(scenario())


@pytest.mark.parametrize("failure", [redis.ConnectionError(), redis.TimeoutError(), OSError()])
def test_a_broker_that_is_gone_is_trouble(failure: Exception) -> None:
    async def scenario() -> None:
        mine = Mine()
        mine.batch_client.failure = failure
        assert await mine.probe.trouble() == "the queue can't be reached"
        mine.batch_client.failure = None
        assert await mine.hear(GOOD) is None

    run(scenario())


def test_nobody_is_left_waiting_for_a_reply() -> None:
    async def scenario() -> None:
        mine = Mine()
        await mine.hear(GOOD)
        second: list[BatchReply] = []
        assert mine.batch_client.expect_reply(second.append) == mine.sent[0].batch + 1
        assert list(mine.batch_client._waiting) == [mine.sent[0].batch + 1]

    run(scenario())


WAITS, TAKEN = 1e6, 0.0


@pytest.mark.parametrize(
    ("slots", "busy", "overdue", "oldest_seconds", "works"),
    [
        (1, 1, 0, WAITS, True),
        (2, 2, 0, WAITS, True),
        # The only idle slot can't be used, but the other one will be free.
        (2, 1, 1, WAITS, True),
        # The row itself keeps the slot busy.
        (2, 1, 0, TAKEN, True),
        (1, 0, 0, WAITS, False),
        (2, 1, 0, WAITS, False),
        (1, 0, 0, TAKEN, False),
        (1, 0, 1, WAITS, False),
        (1, 0, 1, TAKEN, False),
    ],
)
@pytest.mark.usefixtures("impatient")
def test_busy_is_not_dead(slots: int, busy: int, overdue: int, oldest_seconds: float, works: bool) -> None:
    async def scenario() -> None:
        mine = Mine()
        mine.workers.heartbeats = {"w": Heartbeat(at=0, slots=slots, busy=busy, overdue=overdue)}
        mine.monitor.oldest_seconds = oldest_seconds
        for _ in range(3):
            trouble = await mine.probe.trouble()
            assert trouble == (None if works else "no answer through the queue within 0.05 s")
        if works:
            assert len(mine.sent) == 1, "one row in flight"
            await asyncio.sleep(3 * module.ANSWER_SECONDS)
            assert await mine.probe.trouble() is None
            mine.workers.heartbeats = {"w": Heartbeat(at=0, slots=slots)}
            assert await mine.probe._asking is not None  # type: ignore[misc]

    run(scenario())


@pytest.mark.usefixtures("impatient")
def test_a_row_that_was_taken_is_answered_within_the_time_limit() -> None:
    async def scenario() -> None:
        mine = Mine()
        mine.probe._limit_seconds = 0.02
        mine.workers.heartbeats = {"w": Heartbeat(at=0, slots=1, busy=1)}
        assert await mine.probe.trouble() is None
        # Other batches follow, but this row's is lost.
        assert await mine.probe._asking is not None  # type: ignore[misc]

    run(scenario())


@pytest.mark.usefixtures("impatient")
def test_a_row_that_busy_workers_took_too_late_is_followed_by_another() -> None:
    async def scenario() -> None:
        mine = Mine()
        mine.workers.heartbeats = {"w": Heartbeat(at=0, slots=1, busy=1)}
        mine.monitor.oldest_seconds = WAITS
        assert await mine.probe.trouble() is None
        mine.batch_client.answer(mine.sent[-1], [EXPIRED])
        await turns()
        assert len(mine.sent) == 2
        asked = mine.ask()
        await turns()
        mine.batch_client.answer(mine.sent[-1], [GOOD])
        assert await asked is None

    run(scenario())


def test_idle_workers_that_take_a_row_too_late_are_trouble() -> None:
    async def scenario() -> None:
        assert await Mine().hear(EXPIRED) == "the worker answered deadline_exceeded"

    run(scenario())


@pytest.mark.parametrize(("compute_seconds", "fresh_seconds"), [(0.01, 2.0), (2.0, 20.0), (20.0, LIMIT_SECONDS)])
def test_the_answer_of_a_slow_model_is_good_for_longer(compute_seconds: float, fresh_seconds: float) -> None:
    async def scenario() -> None:
        mine = Mine()
        asked = mine.ask()
        await turns()
        mine.batch_client.answer(mine.sent[0], [GOOD], compute_seconds=compute_seconds)
        assert await asked is None
        assert mine.probe._good_until - time.monotonic() == pytest.approx(fresh_seconds, abs=1)

    run(scenario())


@pytest.mark.parametrize(
    ("result", "trouble"),
    [
        (GOOD, None),
        ({"predictions": ["anything"]}, None),
        ({"error": {"code": "prediction_failed"}}, None),
        ({"error": {"code": "model_unavailable"}}, "the worker answered model_unavailable"),
        ({"error": {"code": "time_limit"}}, "the worker answered time_limit"),
    ],
)
def test_a_version_that_shows_no_samples_is_asked_for_a_plain_row(result: dict[str, Any], trouble: str | None) -> None:
    async def scenario() -> None:
        mine = Mine(manifest=classifier().model_copy(update={"samples": []}))
        assert await mine.hear(result) == trouble
        assert mine.sent[0].rows == [[2.0, 2.0]]

    run(scenario())
