"""The client for event loops: the same conversations, and the same bounds whatever a server sends."""

import asyncio
import gzip
import inspect
import json
import socket
import threading
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import pytest

from headrace import AsyncClient, Client, ProblemError
from headrace.client import errors
from headrace.client.exchange import CONNECTIONS_MAX
from headrace.client.job import AsyncJob, Job
from tests.support.coroutines import run, until
from tests.unit.headrace.client.test_client import Gateway, problem, view
from tests.unit.headrace.client.test_hostile_answers import OK, ROW, assert_readable, dripping, server


def client_of(answer: Callable[[httpx.Request], httpx.Response], **options: Any) -> AsyncClient:
    return AsyncClient("http://gateway:8000", transport=httpx.MockTransport(answer), **options)


def predict(client: AsyncClient, rows: Any = ROW) -> dict[str, Any]:
    async def predicted() -> dict[str, Any]:
        async with client:
            return await client.predict(rows)

    return run(predicted())


@pytest.mark.parametrize(("twin", "original"), [(AsyncClient, Client), (AsyncJob, Job)])
def test_the_twins_have_the_same_methods_with_the_same_arguments(twin: type, original: type) -> None:
    def methods(kind: type) -> dict[str, list[tuple[str, Any]]]:
        return {
            name.replace("aclose", "close"): [
                (each.name, each.default) for each in inspect.signature(method).parameters.values()
            ]
            for name, method in vars(kind).items()
            if inspect.isfunction(method) and (not name.startswith("_") or name == "__init__")
        }

    assert methods(twin) == methods(original)
    assert len(methods(twin)) >= 4


def test_a_deadline_that_is_no_number_of_seconds_is_refused() -> None:
    with pytest.raises(errors.ClientMisused, match=r"^deadline is a number of seconds above 0"):
        run(client_of(Gateway()).predict(ROW, deadline="2 s"))  # type: ignore[arg-type]


def test_rows_are_predicted() -> None:
    gateway = Gateway(httpx.Response(200, json={"predictions": [1, 2]}))

    assert predict(client_of(gateway, key="secret"), [{"x": 1.0}, {"x": 2.0}]) == {"predictions": [1, 2]}
    [request] = gateway.requests
    assert (request.method, str(request.url)) == ("POST", "http://gateway:8000/predict")
    assert json.loads(request.content) == {"instances": [{"x": 1.0}, {"x": 2.0}]}
    assert request.headers["authorization"] == "Bearer secret"


def test_predictions_are_made_side_by_side() -> None:
    both_here = asyncio.Barrier(2) if hasattr(asyncio, "Barrier") else None
    if both_here is None:
        pytest.skip("asyncio has a barrier from Python 3.11 on")

    async def answer(_: httpx.Request) -> httpx.Response:
        await both_here.wait()
        return httpx.Response(200, json={"prediction": 1})

    async def two() -> list[dict[str, Any]]:
        async with client_of(answer) as client:  # type: ignore[arg-type]
            return list(await asyncio.gather(client.predict(ROW), client.predict(ROW)))

    assert run(two()) == [{"prediction": 1}] * 2


def test_calls_without_a_connection_wait_outside_of_the_pool() -> None:
    now, most = 0, 0

    async def answer(_: httpx.Request) -> httpx.Response:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0)
        now -= 1
        return httpx.Response(200, json={"prediction": 1})

    async def many() -> list[dict[str, Any]]:
        async with client_of(answer) as client:  # type: ignore[arg-type]
            return list(await asyncio.gather(*(client.predict(ROW) for _ in range(3 * CONNECTIONS_MAX))))

    assert run(many()) == [{"prediction": 1}] * 3 * CONNECTIONS_MAX
    assert most == CONNECTIONS_MAX


def test_a_call_that_gets_no_turn_in_its_time_blames_the_client() -> None:
    sent = 0

    async def silent(_: httpx.Request) -> httpx.Response:
        nonlocal sent
        sent += 1
        return await asyncio.Future()

    async def one_more() -> None:
        async with client_of(silent, timeout=0.3) as client:  # type: ignore[arg-type]
            others = [asyncio.create_task(client.predict(ROW, deadline=600)) for _ in range(CONNECTIONS_MAX)]
            await until("all connections are taken", lambda: sent == CONNECTIONS_MAX)
            with pytest.raises(
                errors.GatewayUnreachable, match=r"^this client had too many calls .* for 0\.3 s$"
            ) as caught:
                await client.predict(ROW)
            assert not caught.value.sent
            for each in others:
                each.cancel()
            await asyncio.gather(*others, return_exceptions=True)

    run(one_more())
    assert sent == CONNECTIONS_MAX


def test_a_job_is_submitted_waited_for_and_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = Gateway(
        httpx.Response(202, json={"id": "j1", "status": "queued"}),
        view("running"),
        view("succeeded", result={"prediction": 1}),
        view("succeeded", result={"prediction": 1}),
        view("succeeded", result={"prediction": 1}),
        httpx.Response(204),
    )
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    async def story() -> None:
        async with client_of(gateway) as client:
            job = await client.submit(ROW, model="m", idempotency_key="k")
            monkeypatch.setattr("headrace.client.async_client.asyncio.sleep", pause)
            assert repr(job) == "AsyncJob('j1')"
            assert await job.result(timeout=60) == {"prediction": 1, "model": "m", "version": "v1"}
            assert await client.job("j1").status() == "succeeded"
            assert (await job.view())["result"] == {"prediction": 1}
            await job.delete()

    run(story())
    assert gateway.requests[0].headers["idempotency-key"] == "k"
    assert pauses == [1.0]


def test_jobs_models_and_health_are_shown() -> None:
    gateway = Gateway(
        httpx.Response(200, json={"jobs": [{"id": "j2"}], "next": "c"}),
        httpx.Response(200, json={"jobs": [{"id": "j1"}]}),
        httpx.Response(200, json={"models": [{"name": "m"}]}),
        httpx.Response(200, json={"name": "m", "version": "v", "features": [{"name": "x"}]}),
        httpx.Response(503, json={"status": "unavailable"}),
    )

    async def story() -> list[Any]:
        async with client_of(gateway) as client:
            listed = [view["id"] async for view in client.jobs(model="m")]
            return [listed, await client.models(), (await client.model("m", "v"))["name"], await client.health()]

    assert run(story()) == [["j2", "j1"], [{"name": "m"}], "m", {"status": "unavailable"}]


def test_errors_are_those_of_the_client() -> None:
    with pytest.raises(errors.InvalidRequest, match="422 a_code: a reason"):
        predict(client_of(Gateway(problem(422, "a_code"))))
    with pytest.raises(errors.UnusableAnswer, match="it is no JSON"):
        predict(client_of(Gateway(httpx.Response(200, content=b"hello"))))
    with pytest.raises(errors.ClientMisused, match="is no address of a gateway"):
        AsyncClient("gateway")

    async def closed() -> None:
        async with client_of(Gateway()) as client:
            pass
        await client.predict(ROW)

    with pytest.raises(errors.ClientMisused, match=r"^this client is closed: make a new one$"):
        run(closed())


def test_a_redirect_is_not_followed_and_a_cookie_not_kept() -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(307, headers={"Location": "http:]", "Set-Cookie": "a=b"})

    async def story() -> None:
        async with client_of(answer) as client:
            for _ in range(2):
                with pytest.raises(ProblemError, match=r"it redirects to 'http:\]'"):
                    await client.predict(ROW)

    run(story())
    assert [(request.url.host, request.headers.get("cookie")) for request in asked] == [("gateway", None)] * 2


class Pieces(httpx.AsyncByteStream):
    """A body in pieces that are made when they are read, without a turn of the loop in between."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece


def streaming(pieces: Iterator[bytes], headers: dict[str, str] | None = None, **options: Any) -> AsyncClient:
    return client_of(lambda _: httpx.Response(200, headers=headers, stream=Pieces(pieces)), **options)


def endless(read: list[int], size: int) -> Iterator[bytes]:
    while True:
        read.append(size)
        yield b" " * size


def test_an_endless_body_is_left() -> None:
    read: list[int] = []
    client = streaming(endless(read, 5_000))
    client.response_max_bytes = 20_000

    with pytest.raises(errors.UnusableAnswer, match=r"larger than 20,000 bytes \(response_max_bytes\)"):
        predict(client)
    assert sum(read) <= 25_000


def test_pieces_that_are_there_at_once_end_with_the_time() -> None:
    with pytest.raises(errors.GatewayUnreachable, match=r"no whole answer within 0\.2 s"):
        predict(streaming(endless([], 1), timeout=0.2))


def test_a_small_body_that_unpacks_to_a_large_one_is_left() -> None:
    bomb = gzip.compress(b'{"prediction":"' + b"x" * 50_000_000 + b'"}')
    client = streaming(iter([bomb]), {"Content-Encoding": "gzip"})
    client.response_max_bytes = 1_000_000

    tracemalloc.start()
    try:
        with pytest.raises(errors.UnusableAnswer, match="larger than 1,000,000 bytes"):
            predict(client)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10_000_000


def test_a_compressed_answer_is_read() -> None:
    packed = gzip.compress(b'{"prediction":1}')
    pieces = (packed[at : at + 1] for at in range(len(packed)))

    assert predict(streaming(pieces, {"Content-Encoding": "gzip"})) == {"prediction": 1}


def real(url: str, timeout: float) -> AsyncClient:
    # A transport of its own: a proxy of the environment can't reach this machine.
    return AsyncClient(url, timeout=timeout, transport=httpx.AsyncHTTPTransport())


@pytest.mark.parametrize(
    ("start", "drop"),
    [
        (b"", b"H"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (OK + b"\r\n", b" "),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
        (OK + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b"", mtime=0), b"a"),
    ],
)
def test_an_answer_that_drips_for_ever_is_given_up(start: bytes, drop: bytes) -> None:
    with (
        server(dripping(start, drop)) as url,
        pytest.raises(errors.GatewayUnreachable, match=r"^http://127.0.0.1:[0-9]+: no whole answer within 0\.3 s$"),
    ):
        predict(real(url, 0.3))


def test_answers_before_the_answer_come_to_an_end() -> None:
    def continue_for_ever(connection: socket.socket, ended: threading.Event) -> None:
        connection.recv(65_536)
        for _ in range(20_000):
            if ended.is_set():
                return
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)

    with server(continue_for_ever) as url, pytest.raises(errors.GatewayUnreachable, match="no whole answer within"):
        predict(real(url, 0.3))


def test_a_server_that_reads_slowly_is_given_up() -> None:
    read = [0]

    def sip(connection: socket.socket, ended: threading.Event) -> None:
        while piece := connection.recv(100_000):
            read.append(len(piece))
            ended.wait(0.02)

    with server(sip) as url, pytest.raises(errors.GatewayUnreachable, match="no whole answer within 1 s"):
        predict(real(url, 1.0), {"x": "a" * 40_000_000})

    assert 0 < sum(read) < 40_000_000, "a request that is given up is not sent to its end"


@pytest.mark.parametrize("answer", [b"", b"\x1b[2J\r\n\r\n", OK + b"Content-Length: 9\r\n\r\n{}"])
def test_what_is_no_http_is_no_answer(answer: bytes) -> None:
    def send(connection: socket.socket, _: threading.Event) -> None:
        connection.recv(65_536)
        connection.sendall(answer)

    with server(send) as url, pytest.raises(errors.GatewayUnreachable) as caught:
        predict(real(url, 60))

    assert_readable(caught.value)


def test_a_cancelled_prediction_ends_at_once() -> None:
    async def story(url: str) -> None:
        async with real(url, 60) as client:
            task = asyncio.create_task(client.predict(ROW))
            await asyncio.to_thread(here.wait, 60)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    here, gone = threading.Event(), threading.Event()

    def silent(connection: socket.socket, _: threading.Event) -> None:
        while connection.recv(65_536):
            here.set()
        gone.set()

    with server(silent) as url:
        run(story(url))
        assert gone.wait(60), "the connection ends"
