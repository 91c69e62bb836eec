from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import orjson
import pytest
import redis
from fakeredis import FakeServer

from gateway.batching.batcher import Batcher
from gateway.broker.batch_client import BatchClient
from gateway.catalog import shadows as module
from gateway.catalog.row_parser import ParsedRows, RowParser
from gateway.catalog.served_model import ServedModel
from gateway.catalog.shadows import (
    BYTES_WAITING_MAX,
    ENTRY_BYTES_MAX,
    ENTRY_ROWS_FIRST,
    ENTRY_ROWS_MAX,
    LINES_PER_MINUTE,
    PILE_BYTES_MAX,
    PILE_ROWS_MAX,
    ROWS_WAITING_MAX,
    Shadows,
)
from headrace.models.manifest import Feature, Manifest
from shared.queue import keys
from shared.queue.broker_clock import BrokerClock
from shared.queue.celery_app import make_celery
from shared.queue.contract import Row, ShadowMessage
from shared.settings import CommonSettings
from tests.support.coroutines import run
from tests.support.manifests import feature, flag, mixed, regressor, text
from tests.unit.gateway.fakes import FakeBatchClient, FakeWorkers, connected

APP = make_celery(CommonSettings())


class FakeTime:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def time(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    time = FakeTime()
    monkeypatch.setattr(module, "time", time)
    monkeypatch.setattr(module, "FLUSH_SECONDS", 0.0)
    monkeypatch.setattr(module, "POLL_SECONDS", 0.0)
    return time


def served(manifest: Manifest) -> ServedModel:
    return ServedModel(manifest, RowParser(manifest, 10), cast(Batcher, None))


class Gateway:
    """Shadows of a gateway process, with a Redis in memory."""

    def __init__(self, client: Any, workers: FakeWorkers) -> None:
        self.redis = client
        self.dropped = 0
        self._served: dict[tuple[str, str], ServedModel] = {}
        batch_client = BatchClient(client, client, client, APP, BrokerClock())
        self.shadows = Shadows(client, batch_client, workers, 35.0, self._drop)

    def _drop(self, rows: int) -> None:
        self.dropped += rows

    def of(self, model: str, version: str) -> ServedModel:
        found = self._served.get((model, version))
        return found or self._served.setdefault((model, version), served(regressor(["x"], name=model, version=version)))

    def add(self, n_rows: int, model: str = "iris", version: str = "v2", primary: str = "v1", size: int = 0) -> None:
        """Add rows of this size, which count from 0."""
        rows: list[Row] = [[float(i)] for i in range(n_rows)]
        parsed = ParsedRows(rows, False, n_rows * size)
        self.shadows.add(self.of(model, primary), self.of(model, version), parsed, [row[0] * 2 for row in rows])


class Theatre(Gateway):
    """A gateway process, and the workers."""

    def __init__(self, client: Any) -> None:
        self.workers = FakeWorkers()
        super().__init__(client, self.workers)

    def another(self) -> Gateway:
        """Return another gateway process."""
        return Gateway(self.redis, self.workers)

    async def work(self, queue: str = "bulk") -> ShadowMessage | None:
        """Do the entry that is in a queue, if any; there is at most one."""
        entries = await self.redis.rpop(queue, 10) or []
        if not entries:
            return None
        [entry] = entries
        [[payload], _, _] = orjson.loads(orjson.loads(entry)["body"])
        assert 0 < await self.redis.pttl(keys.shadow_lock(queue)) <= 35_000
        await self.redis.delete(keys.shadow_lock(queue))
        return ShadowMessage.model_validate_json(payload)

    async def sent(self, queue: str = "bulk") -> list[ShadowMessage]:
        """Do all entries for a queue, one by one."""
        messages: list[ShadowMessage] = []
        for _ in range(1000):
            await self.shadows.step()
            message = await self.work(queue)
            if message is None:
                return messages
            messages.append(message)
        raise AssertionError("they do not end")


@asynccontextmanager
async def theatre(broker: FakeServer) -> AsyncIterator[Theatre]:
    async with connected(broker) as client:
        yield Theatre(client)


def test_rows_of_many_calls_leave_as_one_entry_with_their_predictions(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with theatre(broker) as it:
            it.add(2)
            it.add(1)
            assert await it.work() is None, "not before the next step"
            [message] = await it.sent()
            assert (message.model, message.version, message.primary) == ("iris", "v2", "v1")
            assert message.rows == [[0.0], [1.0], [0.0]]
            assert message.predictions == [0.0, 2.0, 0.0]
            assert await it.sent() == [], "nothing is sent twice"
            assert it.dropped == 0

    run(scenario())


def test_each_comparison_has_an_entry_of_its_own_and_they_take_turns(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with theatre(broker) as it:
            it.workers.pinned = {"sticks": 1}
            it.add(ENTRY_ROWS_FIRST + 1)
            it.add(2, version="v3")
            it.add(3, primary="v0")
            it.add(4, model="sticks")
            common = [(each.version, each.primary, len(each.rows)) for each in await it.sent()]
            assert common == [("v2", "v1", ENTRY_ROWS_FIRST), ("v3", "v1", 2), ("v2", "v0", 3), ("v2", "v1", 1)]
            assert [len(each.rows) for each in await it.sent("bulk.sticks")] == [4]

    run(scenario())


# --- jobs are not held up


def test_a_worker_group_has_one_entry_at_a_time(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with theatre(broker) as it:
            other = it.another()
            it.add(PILE_ROWS_MAX)
            it.add(5, version="v3")
            other.add(PILE_ROWS_MAX)
            for _ in range(5):
                await it.shadows.step()
                await other.shadows.step()
            assert await it.redis.llen("bulk") == 1
            # A worker has taken it, and computes.
            [entry] = await it.redis.rpop("bulk", 1)
            for _ in range(5):
                await it.shadows.step()
                await other.shadows.step()
            assert await it.redis.llen("bulk") == 0
            await it.redis.rpush("bulk", entry)
            await it.work()
            await other.shadows.step()
            await it.shadows.step()
            assert await it.redis.llen("bulk") == 1, "the next one"

    run(scenario())


def test_an_entry_whose_worker_has_died_is_waited_for_until_its_lock_expires(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with theatre(broker) as it:
            it.add(ENTRY_ROWS_FIRST + 1)
            await it.shadows.step()
            await it.redis.delete("bulk")
            await it.shadows.step()
            assert await it.redis.llen("bulk") == 0
            await it.redis.delete(keys.shadow_lock("bulk"))
            await it.shadows.step()
            assert await it.redis.llen("bulk") == 1

    run(scenario())


def test_jobs_go_first(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with theatre(broker) as it:
            it.workers.pinned = {"sticks": 1}
            await it.redis.lpush("bulk", "job")
            it.add(3)
            it.add(4, model="sticks")
            await it.shadows.step()
            assert await it.redis.llen("bulk") == 1
            assert not await it.redis.exists(keys.shadow_lock("bulk"))
            assert await it.redis.llen("bulk.sticks") == 1, "others have no job that waits"
            await it.redis.delete("bulk")
            assert [len(each.rows) for each in await it.sent()] == [3]
            assert it.dropped == 0

    run(scenario())


@pytest.mark.parametrize(
    ("row_seconds", "expected"),
    [(0.0001, ENTRY_ROWS_MAX), (0.01, 100), (0.5, 2), (25.0, 1)],
)
def test_an_entry_has_as_many_rows_as_take_a_second(
    broker: FakeServer, time: FakeTime, row_seconds: float, expected: int
) -> None:
    async def scenario() -> None:
        async with theatre(broker) as it:
            it.add(PILE_ROWS_MAX)
            for n_rows in (ENTRY_ROWS_FIRST, expected, expected):
                await it.shadows.step()
                message = await it.work()
                assert message is not None and abs(len(message.rows) - n_rows) <= 1
                time.now += row_seconds * len(message.rows)

    run(scenario())


def test_long_texts_leave_in_small_entries(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with theatre(broker) as it:
            it.add(11, size=300_000)
            it.add(1, size=3_000_000)
            assert [len(each.rows) for each in await it.sent()] == [3, 3, 3, 2, 1]
            assert ENTRY_BYTES_MAX // 300_000 == 3
            assert it.dropped == 0

    run(scenario())


def test_rows_that_are_larger_than_they_seemed_do_not_reach_redis(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with theatre(broker) as it:
            primary, shadow = (served(mixed(text("a"), version=version)) for version in ("v1", "v2"))
            it.shadows.add(primary, shadow, ParsedRows([["\0" * ENTRY_BYTES_MAX]], True, ENTRY_BYTES_MAX), [0.5])
            await it.shadows.step()
            assert await it.redis.keys() == []
            it.add(1)
            assert [each.model for each in await it.sent()] == ["iris"]
            assert it.dropped == 1

    run(scenario())


# --- rows that wait


def test_more_rows_than_may_wait_are_dropped_and_counted(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with theatre(broker) as it:
            it.add(PILE_ROWS_MAX - 1)
            it.add(3)
            assert it.dropped == 2
            models = [f"m{at}" for at in range(ROWS_WAITING_MAX // PILE_ROWS_MAX)]
            for model in models:
                it.add(PILE_ROWS_MAX, model=model)
            assert it.dropped == 2 + PILE_ROWS_MAX, "one limit is for all models together"
            assert sum(len(each.rows) for each in await it.sent()) == ROWS_WAITING_MAX
            it.add(2)
            assert it.dropped == 2 + PILE_ROWS_MAX, "there is room again"

    run(scenario())


def test_more_bytes_than_may_wait_are_dropped_and_counted(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with theatre(broker) as it:
            it.add(500, size=30_000)
            fitting = PILE_BYTES_MAX // 30_000
            assert fitting - 5 < 500 - it.dropped <= fitting
            for at in range(5):
                it.add(500, model=f"m{at}", size=30_000)
            kept = 3000 - it.dropped
            assert BYTES_WAITING_MAX - 2_000_000 < kept * 30_000 <= BYTES_WAITING_MAX
            assert sum(len(each.rows) for each in await it.sent()) == kept
            dropped = it.dropped
            it.add(100, size=30_000)
            assert it.dropped == dropped, "there is room again"

    run(scenario())


def test_rows_wait_for_a_broker_that_is_away(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with theatre(broker) as it:
            it.add(3)
            it.add(4, model="sticks")
            broker.connected = False
            with pytest.raises(redis.ConnectionError):
                await it.shadows.step()
            broker.connected = True
            assert sum(len(each.rows) for each in await it.sent()) == 7
            assert it.dropped == 0

    run(scenario())


def test_rows_that_a_broken_broker_loses_are_counted(broker: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: Any) -> None:
        raise redis.ConnectionError

    async def scenario() -> None:
        async with theatre(broker) as it:
            it.add(3)
            with monkeypatch.context() as broken:
                broken.setattr(it.redis, "lpush", fail)
                with pytest.raises(redis.ConnectionError):
                    await it.shadows.step()
            assert it.dropped == 3
            await it.redis.delete(keys.shadow_lock("bulk"))
            assert await it.sent() == []
            it.add(PILE_ROWS_MAX)
            assert it.dropped == 3, "dropped rows do not count as waiting"

    run(scenario())


def test_nothing_to_send_asks_redis_nothing() -> None:
    run(Shadows(None, FakeBatchClient(), FakeWorkers(), 35.0, lambda _: None).step())  # type: ignore[arg-type]


# --- other forms of rows


def outputs(manifest: Manifest, *names: str) -> Manifest:
    """Return a manifest with outputs of these names."""
    [output] = manifest.outputs
    return manifest.model_copy(update={"outputs": [output.model_copy(update={"name": name}) for name in names]})


def test_a_shadow_gets_its_own_order_of_features(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with theatre(broker) as it:
            columns = [feature("a"), text("b"), flag("c")]
            primary = served(mixed(*columns))
            shadow = served(mixed(columns[2], columns[0], columns[1], version="v2"))
            rows: list[Row] = [[1.0, "red", True], [2.0, "blue", False]]
            it.shadows.add(primary, shadow, ParsedRows(rows, False), [0.5, 1.5])
            it.shadows.add(primary, shadow, ParsedRows(rows[:1], True), [0.5])
            [message] = await it.sent()
            assert message.rows == [[True, 1.0, "red"], [False, 2.0, "blue"], [True, 1.0, "red"]]
            assert message.predictions == [0.5, 1.5, 0.5]
            assert rows == [[1.0, "red", True], [2.0, "blue", False]], "the answered rows stay"

    run(scenario())


def test_predictions_are_put_into_the_order_of_the_shadows_outputs(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with theatre(broker) as it:
            primary = served(outputs(regressor(["x"]), "left", "right"))
            shadow = served(outputs(regressor(["x"], version="v2"), "right", "left"))
            it.shadows.add(primary, shadow, ParsedRows([[1.0]], True), [[3.0, 4.0]])
            [message] = await it.sent()
            assert (message.rows, message.predictions) == ([[1.0]], [[4.0, 3.0]])

    run(scenario())


def test_a_row_with_a_null_that_the_shadow_would_refuse_is_dropped(broker: FakeServer) -> None:
    async def scenario() -> None:
        async with theatre(broker) as it:
            primary = served(mixed(feature("a", nullable=True), feature("b", nullable=True)))
            shadow = served(mixed(feature("b", nullable=True), feature("a"), version="v2"))
            it.shadows.add(primary, shadow, ParsedRows([[None, 1.0], [2.0, None]], False), [0.5, 1.5])
            [message] = await it.sent()
            assert (message.rows, message.predictions) == ([[None, 2.0]], [1.5])
            assert it.dropped == 1

    run(scenario())


A, B = feature("a"), feature("b")


@pytest.mark.parametrize(
    ("columns", "named"),
    [([A], "'b'"), ([A, B, feature("c")], "'c'"), ([A, text("b")], "'b'"), ([A, feature("B")], "'B', 'b'")],
)
def test_a_shadow_with_other_features_gets_no_rows(
    broker: FakeServer, caplog: pytest.LogCaptureFixture, columns: Sequence[Feature], named: str
) -> None:
    async def scenario() -> None:
        async with theatre(broker) as it:
            primary, shadow = served(mixed(A, B)), served(mixed(*columns, version="v2"))
            for _ in range(2 * LINES_PER_MINUTE):
                it.shadows.add(primary, shadow, ParsedRows([[1.0, 2.0]], True), [0.5])
            assert await it.sent() == []
            assert it.dropped == 2 * LINES_PER_MINUTE

    run(scenario())

    line = f"sticks v2 gets no rows as a shadow: v2 and v1 differ in features: {named}"
    assert [record.getMessage() for record in caplog.records] == [line] * LINES_PER_MINUTE
