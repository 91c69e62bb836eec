"""Places of gRPC calls: neither an owner nor callers without a key take all, and silent calls do not keep theirs."""

import asyncio
from contextlib import ExitStack
from typing import Any

import pytest

from gateway.errors import InvalidTensors
from gateway.problems import Problem
from gateway.rpc import places
from gateway.rpc.places import CallPlaces
from gateway.rpc.request import headers_of
from tests.support.coroutines import run, turns

pytestmark = pytest.mark.unit

PATIENCE_SECONDS = 30.0


class Call:
    """A call with these messages and metadata."""

    def __init__(self, *messages: Any, metadata: Any = ()) -> None:
        self._messages = [*messages]
        self._metadata = metadata

    async def read(self) -> Any:
        if not self._messages:
            await asyncio.Event().wait()
        return self._messages.pop()

    def invocation_metadata(self) -> Any:
        return self._metadata


@pytest.fixture
def rejected() -> list[str]:
    return []


@pytest.fixture
def open_places(rejected: list[str]) -> CallPlaces:
    return CallPlaces(4, PATIENCE_SECONDS, rejected.append)


def taken(all_places: CallPlaces, stack: ExitStack, owner: str | None) -> int:
    """Take places until there is none, and return their number."""
    for n in range(1_000):
        try:
            stack.enter_context(all_places.of(owner))
        except Problem as problem:
            assert (problem.status, problem.code) == (503, "connections_full")
            return n
    raise AssertionError("there is no limit")


def test_an_owner_has_half_of_the_places(open_places: CallPlaces, rejected: list[str]) -> None:
    with ExitStack() as stack:
        assert [taken(open_places, stack, owner) for owner in ("a", "b", "c")] == [2, 2, 0]
    assert rejected == ["connections_full"] * 3

    with ExitStack() as stack:
        assert taken(open_places, stack, "") == 4, "all of them where no keys are asked for"


def test_probes_and_other_calls_leave_each_other_places(open_places: CallPlaces) -> None:
    with ExitStack() as stack:
        assert taken(open_places, stack, None) == places.PROBES_MAX
        assert taken(open_places, stack, "") == 4

    with ExitStack() as stack:
        taken(open_places, stack, "")
        assert taken(open_places, stack, None) == places.PROBES_MAX


def test_a_message_is_read(open_places: CallPlaces) -> None:
    assert run(open_places.message_of(Call(b"x"), "a")) == b"x"
    with pytest.raises(InvalidTensors):
        run(open_places.message_of(Call(object()), "a"))


@pytest.mark.parametrize(("owner", "others"), [(None, 0), ("a", 1), ("a", 2)])
def test_a_call_without_a_message_is_borne_as_long_as_there_is_room(
    open_places: CallPlaces, monkeypatch: pytest.MonkeyPatch, owner: str | None, others: int
) -> None:
    monkeypatch.setattr(places, "PROBE_SECONDS", 0.01)
    monkeypatch.setattr(places, "CROWDED_SECONDS", 0.02)
    patient = others == 1

    async def scenario() -> None:
        reading = asyncio.create_task(open_places.message_of(Call(), owner))
        done, _ = await asyncio.wait([reading], timeout=0.3 if patient else 60)
        assert bool(done) is not patient
        if patient:
            reading.cancel()
            await asyncio.wait([reading])
        else:
            assert isinstance(reading.exception(), Problem)

    with ExitStack() as stack:
        for _ in range(others):
            stack.enter_context(open_places.of("a"))
        run(scenario())


def test_calls_without_a_message_keep_out_no_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "PROBES_MAX", 4)
    monkeypatch.setattr(places, "PROBE_SECONDS", 60.0)
    some_places = CallPlaces(4, 60.0, lambda _: None)

    async def probe(call: Call) -> Any:
        with some_places.of(None):
            return await some_places.message_of(call, None)

    async def scenario() -> None:
        silent = [asyncio.create_task(probe(Call())) for _ in range(6)]
        await turns(20)
        assert [each.done() for each in silent] == [True, True, False, False, False, False]
        assert all(isinstance(each.exception(), Problem) for each in silent[:2])
        assert [await probe(Call(b"x")) for _ in range(3)] == [b"x"] * 3
        await turns(20)
        assert sum(each.done() for each in silent) == 3
        for each in silent:
            each.cancel()
        await asyncio.wait(silent)

    run(scenario())


def test_of_two_keys_none_is_valid() -> None:
    metadata = [("authorization", "Bearer one"), ("authorization", "Bearer two"), ("x-bin", b"\0")]

    assert headers_of(Call(metadata=metadata)) == {b"authorization": b"Bearer one, Bearer two"}
