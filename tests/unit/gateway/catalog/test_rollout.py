from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
import redis
from fakeredis import FakeServer

from gateway.broker.batch_client import BatchClient
from gateway.catalog import rollout as module
from gateway.catalog.rollout import BACKLOG_MAX, ROWS_PER_ENTRY, ROWS_WAITING_MAX, Rollout, RunningTrial, Shadows
from shared.queue.broker_clock import BrokerClock
from shared.queue.celery_app import make_celery
from shared.queue.contract import Row, ShadowMessage
from shared.settings import CommonSettings
from tests.support.coroutines import run
from tests.unit.gateway.fakes import FakeBatchClient, FakeWorkers, connected

APP = make_celery(CommonSettings())
KEYS = [f"user-{i}" for i in range(10_000)]


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9])
def test_the_new_version_gets_its_share_of_the_keys(share: float) -> None:
    rollout = Rollout(RunningTrial("new", share))

    answered = Counter(rollout.choose("old", "iris", key) for key in KEYS)

    # At most four standard deviations, and the keys are the same in every run.
    assert answered["new"] / len(KEYS) == pytest.approx(share, abs=0.02)


def test_a_key_always_gets_the_same_version() -> None:
    rollout = Rollout(RunningTrial("new", 0.5))
    others = Rollout(RunningTrial("newer", 0.5), RunningTrial("shadow", 0.5))

    for key in KEYS[:500]:
        answers = {rollout.choose("old", "iris", key) for _ in range(3)}
        assert len(answers) == 1
        assert (answers == {"new"}) == (others.choose("old", "iris", key) == "newer")


def test_a_greater_share_keeps_the_keys_of_the_smaller_one() -> None:
    few, many = (
        {key for key in KEYS[:2000] if Rollout(RunningTrial("new", share)).choose("old", "iris", key) == "new"}
        for share in (0.1, 0.4)
    )

    assert few < many


def test_each_model_splits_the_keys_in_its_own_way() -> None:
    rollout = Rollout(RunningTrial("new", 0.5))
    both = [key for key in KEYS if all(rollout.choose("old", name, key) == "new" for name in ("iris", "sticks"))]

    assert len(both) / len(KEYS) == pytest.approx(0.25, abs=0.03)


def test_without_a_key_chance_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    rollout = Rollout(RunningTrial("new", 0.25))
    answered = Counter(rollout.choose("old", "iris", "") for _ in range(10_000))
    assert answered["new"] / 10_000 == pytest.approx(0.25, abs=0.03)

    for chance, version in ((0.0, "new"), (0.2499, "new"), (0.25, "old"), (0.9999, "old")):
        monkeypatch.setattr("gateway.catalog.rollout.random.random", lambda chance=chance: chance)
        assert rollout.choose("old", "iris", "") == version


@pytest.mark.parametrize("key", ["", *KEYS[:20]])
def test_a_share_may_be_all_or_nothing(key: str) -> None:
    assert Rollout(RunningTrial("new", 1.0)).choose("old", "iris", key) == "new"
    assert Rollout(RunningTrial("new", 0.0)).choose("old", "iris", key) == "old"
    assert Rollout[str]().choose("old", "iris", key) == "old"


def test_a_shadow_is_drawn_by_its_share() -> None:
    asked = Counter(Rollout(shadow=RunningTrial("new", 0.25)).draw_shadow() for _ in range(10_000))

    assert asked["new"] / 10_000 == pytest.approx(0.25, abs=0.03)
    assert {Rollout(shadow=RunningTrial("new", 1.0)).draw_shadow() for _ in range(100)} == {"new"}
    assert {Rollout(RunningTrial("new", 1.0)).draw_shadow() for _ in range(100)} == {None}


# --- shadows


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FLUSH_SECONDS", 0.0)


class Theatre:
    """Shadows with a Redis in memory."""

    def __init__(self, client: Any) -> None:
        self.redis = client
        self.dropped = 0
        self.workers = FakeWorkers()
        self.shadows = Shadows(
            client, BatchClient(client, client, client, APP, BrokerClock()), self.workers, self._drop
        )

    def _drop(self, rows: int) -> None:
        self.dropped += rows

    def add(self, n_rows: int, model: str = "iris", version: str = "v2", primary: str = "v1") -> None:
        rows: list[Row] = [[float(i)] for i in range(n_rows)]
        self.shadows.add(model, version, primary, rows, [row[0] * 2 for row in rows])

    async def sent(self, queue: str = "bulk") -> list[ShadowMessage]:
        """Take the messages from a queue, in the order in which workers would."""
        messages = []
        while entry := await self.redis.rpop(queue):
            [[payload], _, _] = orjson.loads(orjson.loads(entry)["body"])
            messages.append(ShadowMessage.model_validate_json(payload))
        return messages


@asynccontextmanager
async def theatre(broker: FakeServer) -> AsyncIterator[Theatre]:
    async with connected(broker) as client:
        yield Theatre(client)


def test_rows_of_many_calls_leave_as_one_entry_with_their_predictions(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with theatre(broker) as it:
            it.shadows.add("iris", "v2", "v1", [[1.0], [2.0]], ["a", "b"])
            it.shadows.add("iris", "v2", "v1", [[3.0]], ["c"])
            assert await it.sent() == [], "not before the next step"
            await it.shadows.step()
            [message] = await it.sent()
            assert (message.model, message.version, message.primary) == ("iris", "v2", "v1")
            assert message.rows == [[1.0], [2.0], [3.0]]
            assert message.predictions == ["a", "b", "c"]
            await it.shadows.step()
            assert await it.sent() == [], "nothing is sent twice"
            assert it.dropped == 0

    run(scenario())


def test_each_comparison_has_an_entry_of_its_own(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with theatre(broker) as it:
            it.workers.pinned = {"sticks": 1}
            it.add(1)
            it.add(2, version="v3")
            it.add(3, primary="v0")
            it.add(4, model="sticks")
            await it.shadows.step()
            common = [(each.version, each.primary, len(each.rows)) for each in await it.sent()]
            assert common == [("v2", "v1", 1), ("v3", "v1", 2), ("v2", "v0", 3)]
            assert [len(each.rows) for each in await it.sent("bulk.sticks")] == [4]

    run(scenario())


def test_many_rows_are_several_entries(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with theatre(broker) as it:
            it.add(2 * ROWS_PER_ENTRY + 1)
            await it.shadows.step()
            messages = await it.sent()
            assert [len(each.rows) for each in messages] == [ROWS_PER_ENTRY, ROWS_PER_ENTRY, 1]
            for each in messages:
                assert each.predictions == [row[0] * 2 for row in each.rows]
            assert messages[2].rows == [[2.0 * ROWS_PER_ENTRY]]

    run(scenario())


def test_more_rows_than_may_wait_are_dropped_and_counted(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with theatre(broker) as it:
            it.add(ROWS_WAITING_MAX - 1)
            it.add(2, model="sticks")
            assert it.dropped == 2, "the limit is for all models together"
            it.add(1)
            assert it.dropped == 2
            it.add(1)
            assert it.dropped == 3
            await it.shadows.step()
            assert sum(len(each.rows) for each in await it.sent()) == ROWS_WAITING_MAX
            it.add(2)
            assert it.dropped == 3, "there is room again"

    run(scenario())


@pytest.mark.parametrize(("backlog", "sent"), [(BACKLOG_MAX, True), (BACKLOG_MAX + 1, False)])
def test_jobs_go_first(broker: FakeServer, backlog: int, sent: bool) -> None:
    async def scenario() -> None:
        async with theatre(broker) as it:
            it.workers.pinned = {"sticks": 1}
            await it.redis.lpush("bulk", *["job"] * backlog)
            it.add(3)
            it.add(4, model="sticks")
            await it.shadows.step()
            assert await it.redis.llen("bulk") == backlog + sent
            assert it.dropped == (0 if sent else 3)
            assert await it.redis.llen("bulk.sticks") == 1, "others have no backlog"

    run(scenario())


def test_rows_that_a_broken_broker_loses_are_counted_and_the_others_are_kept(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with theatre(broker) as it:
            it.add(3)
            it.add(4, model="sticks")
            broker.connected = False
            with pytest.raises(redis.ConnectionError):
                await it.shadows.step()
            assert it.dropped == 3
            broker.connected = True
            it.add(ROWS_WAITING_MAX - 4)
            assert it.dropped == 3, "dropped rows do not count as waiting"
            await it.shadows.step()
            assert sum(len(each.rows) for each in await it.sent()) == ROWS_WAITING_MAX

    run(scenario())


def test_nothing_to_send_asks_redis_nothing() -> None:
    run(Shadows(None, FakeBatchClient(), FakeWorkers(), lambda _: None).step())  # type: ignore[arg-type]
