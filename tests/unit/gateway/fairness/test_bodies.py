import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext

import pytest
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive

from gateway.fairness.bodies import SMALL_BYTES, BodyReader, declared_bytes
from gateway.problems import Problem
from tests.support.coroutines import run, until

JSON = {b"content-type": b"application/json"}


class Caller:
    """Sends a body in parts, then perhaps leaves."""

    def __init__(self, *parts: bytes, leaves: bool = False) -> None:
        self.taken = 0
        self._messages = self._all(parts, leaves)

    @staticmethod
    def _all(parts: tuple[bytes, ...], leaves: bool) -> Iterator[Message]:
        for i, part in enumerate(parts):
            yield {"type": "http.request", "body": part, "more_body": leaves or i < len(parts) - 1}
        yield {"type": "http.disconnect"}

    async def __call__(self) -> Message:
        self.taken += 1
        return next(self._messages)


def read(caller: Caller, max_bytes: int = 10, **headers: str) -> bytes:
    names = {"content_type": "application/json", **headers}
    sent = {name.replace("_", "-").encode(): value.encode() for name, value in names.items() if value}
    return run(BodyReader(max_bytes, 1000).read(sent, caller))


@pytest.mark.parametrize("parts", [(b"",), (b"{}",), (b"{", b"", b"}"), (b"12345", b"67890")])
def test_a_body_is_put_together(parts: tuple[bytes, ...]) -> None:
    assert read(Caller(*parts)) == b"".join(parts)


def test_a_message_may_leave_out_what_is_empty() -> None:
    async def receive() -> Message:
        return {"type": "http.request"}

    assert run(BodyReader(1, 1).read(JSON, receive)) == b""


@pytest.mark.parametrize(
    "content_type", ["application/json", "application/json; charset=utf-8", "APPLICATION/JSON", " application/json ;x"]
)
def test_json_is_said_in_many_ways(content_type: str) -> None:
    assert read(Caller(b"{}"), content_type=content_type) == b"{}"


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/jsonp",
        "text/json",
        "json",
        ";application/json",
    ],
)
def test_what_does_not_say_that_it_is_json_is_415_unread(content_type: str) -> None:
    caller = Caller(b"{}")
    with pytest.raises(Problem) as caught:
        read(caller, content_type=content_type)

    assert (caught.value.status, caught.value.code) == (415, "unsupported_media_type")
    assert caught.value.headers["Accept"] == "application/json"
    assert caller.taken == 0


def test_a_refusal_names_every_media_type_of_the_route() -> None:
    taken = (b"application/json", b"text/csv", b"application/x-parquet", b"")
    with pytest.raises(Problem) as caught:
        BodyReader(10, 1000).check({b"content-type": b"text/plain"}, taken)

    assert caught.value.detail == "send application/json, text/csv or application/x-parquet"
    assert caught.value.headers["Accept"] == "application/json, text/csv, application/x-parquet"


@pytest.mark.parametrize(("coding", "taken"), [("gzip", 1), ("GZIP, identity", 0), ("br", 0), ("identity", 1), ("", 1)])
def test_what_is_compressed_in_another_way_than_gzip_is_415_unread(coding: str, taken: int) -> None:
    caller = Caller(b"{}")
    with nullcontext() if taken else pytest.raises(Problem) as caught:
        read(caller, content_encoding=coding)

    assert caller.taken == taken
    if caught is not None:
        assert (caught.value.status, caught.value.headers["Accept-Encoding"]) == (415, "gzip")


@pytest.mark.parametrize("length", ["11", "9" * 19, "9" * 5000])
def test_a_body_that_says_it_is_too_large_is_refused_unread(length: str) -> None:
    caller = Caller(b"x" * 11)
    with pytest.raises(Problem) as caught:
        read(caller, content_length=length)

    assert (caught.value.status, caught.value.code) == (413, "too_large")
    assert "10 bytes" in caught.value.detail
    assert caller.taken == 0


def test_a_body_that_does_not_say_so_is_read_no_further_than_the_limit() -> None:
    caller = Caller(*[b"12345"] * 100)
    with pytest.raises(Problem) as caught:
        read(caller)

    assert caught.value.status == 413
    assert caller.taken == 3


@pytest.mark.parametrize("length", ["2", "10", "0", "-1", "ten", "1e9", "\u00b2"])
def test_a_length_is_believed_only_when_it_refuses(length: str) -> None:
    assert read(Caller(b"0123456789"), content_length=length) == b"0123456789"


@pytest.mark.parametrize("parts", [(), (b"{",)])
def test_a_caller_who_leaves_in_the_middle_is_noticed(parts: tuple[bytes, ...]) -> None:
    with pytest.raises(ClientDisconnect):
        read(Caller(*parts, leaves=True))


def test_bodies_that_are_still_arriving_have_a_limit_together() -> None:
    async def scenario() -> None:
        bodies = BodyReader(100, 150)
        more = asyncio.Event()

        async def slow() -> Message:
            if bodies.held_bytes:
                await more.wait()
                return {"type": "http.request", "body": b"", "more_body": False}
            return {"type": "http.request", "body": b"x" * 100, "more_body": True}

        first = asyncio.create_task(bodies.read(JSON, slow))
        await until("it arrives", lambda: bodies.held_bytes == 100)
        assert await bodies.read(JSON, Caller(b"y" * 100)) == b"y" * 100, "it is there already"
        with pytest.raises(Problem) as caught:
            await bodies.read(JSON, Caller(b"z" * 60, b"z"))
        assert (caught.value.status, caught.value.code) == (503, "bodies_full")
        assert int(caught.value.headers["Retry-After"]) >= 1
        more.set()
        assert await first == b"x" * 100
        assert bodies.held_bytes == 0

    run(scenario())


def test_bodies_that_wait_for_their_answer_have_the_same_limit() -> None:
    bodies = BodyReader(100, 150)
    bodies.hold(100)
    with pytest.raises(Problem) as caught:
        bodies.hold(60)
    assert (caught.value.status, caught.value.code) == (503, "bodies_full")
    with pytest.raises(Problem):
        run(bodies.read(JSON, Caller(b"z" * 60, b"z")))
    bodies.release(100)
    bodies.hold(150)


def test_the_rows_of_a_body_count_too() -> None:
    bodies = BodyReader(100, 150)
    bodies.hold(100)
    # Nobody else is there.
    bodies.hold(900, held=100)
    with pytest.raises(Problem):
        bodies.hold(1)
    bodies.release(1_000)
    bodies.hold(50)
    bodies.hold(50)
    bodies.hold(50, held=50)
    with pytest.raises(Problem):
        bodies.hold(1, held=50)


def test_large_bodies_leave_room_for_small_ones() -> None:
    large = 2 * SMALL_BYTES
    bodies = BodyReader(large, 8 * SMALL_BYTES)
    for _ in range(3):
        bodies.hold(large)
    with pytest.raises(Problem):
        bodies.hold(large)
    with pytest.raises(Problem):
        run(bodies.read(JSON, Caller(b"z" * large, b"")))
    bodies.hold(SMALL_BYTES)
    assert len(run(bodies.read(JSON, Caller(b"z" * SMALL_BYTES, b"")))) == SMALL_BYTES
    with pytest.raises(Problem):
        bodies.hold(1, held=SMALL_BYTES)
    bodies.hold(SMALL_BYTES)
    with pytest.raises(Problem):
        bodies.hold(1)


def test_an_owner_has_half_of_the_limit() -> None:
    bodies = BodyReader(100, 400)
    for _ in range(2):
        bodies.hold(100, owner="mallory")
    with pytest.raises(Problem) as caught:
        bodies.hold(1, owner="mallory")
    assert (caught.value.status, caught.value.code) == (503, "bodies_full")
    with pytest.raises(Problem):
        run(bodies.read(JSON, Caller(b"z" * 60, b"z"), "mallory"))

    bodies.hold(100, owner="victim")
    assert run(bodies.read(JSON, Caller(b"z" * 60, b"z"), "victim")) == b"z" * 61
    bodies.release(100, "mallory")
    bodies.hold(99, owner="mallory")


def test_bodies_of_one_owner_that_arrive_slowly_leave_room_for_others() -> None:
    large = 2 * SMALL_BYTES

    async def scenario() -> None:
        bodies = BodyReader(large, 8 * large)
        leave = asyncio.Event()

        def slow() -> Receive:
            sent = False

            async def receive() -> Message:
                nonlocal sent
                if sent:
                    await leave.wait()
                    return {"type": "http.disconnect"}
                sent = True
                return {"type": "http.request", "body": b"x" * large, "more_body": True}

            return receive

        arriving = [asyncio.create_task(bodies.read(JSON, slow(), "mallory")) for _ in range(6)]
        await until("they arrive, or are refused", lambda: sum(task.done() for task in arriving) == 2)
        assert bodies.held_bytes == 4 * large
        assert await bodies.read(JSON, Caller(b"y" * large, b""), "victim") == b"y" * large
        # One is cancelled, the others leave.
        next(task for task in arriving if not task.done()).cancel()
        leave.set()
        ended = await asyncio.gather(*arriving, return_exceptions=True)
        kinds = Counter(type(error) for error in ended)
        assert kinds == {Problem: 2, asyncio.CancelledError: 1, ClientDisconnect: 3}
        assert bodies.held_bytes == 0
        bodies.hold(4 * large, owner="mallory")

    run(scenario())


def test_the_rows_of_one_large_request_leave_the_other_half_to_others() -> None:
    bodies = BodyReader(100, 1000)
    bodies.hold(100, owner="mallory")
    bodies.hold(800, held=100, owner="mallory")
    with pytest.raises(Problem):
        bodies.hold(1, owner="mallory")
    bodies.hold(100, owner="victim")
    bodies.hold(400, held=100, owner="victim")
    bodies.release(900, "mallory")
    bodies.release(500, "victim")
    assert bodies.held_bytes == 0


def test_a_body_that_ends_badly_is_not_held_against_others() -> None:
    bodies = BodyReader(10, 20)
    for caller in (Caller(b"12345", leaves=True), Caller(b"12345", b"123456", b"1")):
        with pytest.raises((ClientDisconnect, Problem)):
            run(bodies.read(JSON, caller))
        assert bodies.held_bytes == 0


@pytest.mark.parametrize(
    ("length", "expected"), [(b"0", 0), (b"5", 5), (b"0" * 20 + b"5000000", 5_000_000), (b"9" * 200, int("9" * 20))]
)
def test_the_declared_length_is_read_as_a_number(length: bytes, expected: int) -> None:
    assert declared_bytes(length) == expected
