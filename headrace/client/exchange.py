"""One request and its answer, bounded in time and memory whatever the server sends.

httpx bounds the time of each read and write, not their sum, and no memory. So the streams of its connections get reads
and writes here that end when the time of the request does, and the body of an answer is unpacked up to a limit. Finding
the address of a host and connecting are single calls of the system, of which each address has the whole time. In an
event loop the whole exchange is cancelled when its time is over.
"""

import asyncio
import math
import re
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import aclosing, closing, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from http.cookiejar import CookieJar
from typing import Any

import httpx

from headrace.client.calls import Call, typed
from headrace.client.errors import ClientMisused, GatewayUnreachable, UnusableAnswer, shown

RESPONSE_MAX_BYTES = 32_000_000
"""Bytes of an answer's body, also unpacked: twice the largest answer of a gateway as delivered (ANSWER_MAX_BYTES)."""

CONNECTIONS_MAX = 100
"""Connections that a client has at most; more threads or tasks wait for one."""

PORT_MAX = 65_535

RETRY_AFTER_MAX_SECONDS = 3600.0
"""Longest pause that is passed on to the caller; those of a gateway are up to a quarter of an hour."""

WRITTEN_BYTES = 65_536
"""Bytes of a request that are written at a time."""

LOCATION = "location"
"""Extension of a redirect that holds the header."""

_ends: ContextVar[float] = ContextVar("_ends", default=math.inf)
"""Time of `time.monotonic` at which the current request has to be answered."""


@dataclass(frozen=True)
class Answer:
    """An answer of any server: the whole of it, unpacked."""

    status: int
    headers: httpx.Headers
    location: str
    """Address to which it redirects; empty if it does not."""
    content: bytes | bytearray

    @property
    def retry_after(self) -> float | None:
        """Seconds to wait before another attempt, at most an hour; None if the answer has none.

        RFC 9110 also has a date here, which this gateway never sends.
        """
        text = self.headers.get("Retry-After", "")
        return min(float(text), RETRY_AFTER_MAX_SECONDS) if re.fullmatch("[0-9]+", text) else None


class _NoCookies(CookieJar):
    """A jar that stays empty: the API has no cookies, and a server could send new ones with each answer."""

    def extract_cookies(self, response: Any, request: Any) -> None:
        """Take none."""


def connection_options(url: str, key: str | None) -> dict[str, Any]:
    """Return the arguments that httpx' clients are made with for a gateway.

    Raises:
        ClientMisused: if the address is none, or the key can't be one.
    """
    try:
        address = httpx.URL(typed("url", url, str))
    except httpx.InvalidURL as error:
        raise ClientMisused(f"{url!r} is no address of a gateway: {error}") from None
    if (address.port or 0) > PORT_MAX:
        raise ClientMisused(f"{url!r} is no address of a gateway: ports are at most {PORT_MAX}")
    if not re.match(r"https?://[^/]", url) or address.query or address.fragment:
        raise ClientMisused(f"{url!r} is no address of a gateway: write it as http://127.0.0.1:8000")
    headers = {"Content-Type": "application/json", "Accept-Encoding": "gzip"}
    if key is not None:
        if not re.fullmatch(r"[!-~]+", typed("key", key, str)):
            raise ClientMisused("the API key has a space, a line break or a character that is not ASCII")
        headers["Authorization"] = f"Bearer {key}"
    # By default httpx keeps 20 idle connections, and closes others, also one that a thread is about to use.
    limits = httpx.Limits(max_connections=CONNECTIONS_MAX, max_keepalive_connections=CONNECTIONS_MAX)
    return {"base_url": address, "headers": headers, "limits": limits, "cookies": _NoCookies()}


def exchange(http: httpx.Client, call: Call, most: int) -> Answer:
    """Make a call and return the answer, whatever its status.

    Args:
        http: the connections to the server.
        call: the call; its path is below the base URL of `http`.
        most: bytes of the answer's body at most.

    Raises:
        GatewayUnreachable: if there is no whole answer in the call's time.
        UnusableAnswer: if its body is larger, or can't be unpacked.
        ClientMisused: if the client is closed, or the path or a parameter is too long for a URL.
    """
    request = _request(http, call, {"trace": _observe})
    token = _ends.set(time.monotonic() + call.seconds)
    try:
        with _explained(http, call.seconds) as progress:
            _left(None)
            with closing(http.send(request, stream=True)) as response:
                progress.answered = True
                body = _Body(response, most)
                # A transport for tests may have read it.
                for piece in (response.content,) if response.is_stream_consumed else response.iter_raw():
                    body.add(piece)
                    _left(None)
                return body.answer()
    finally:
        _ends.reset(token)


async def exchange_async(http: httpx.AsyncClient, call: Call, most: int, turns: asyncio.Semaphore) -> Answer:
    """Make a call in an event loop, as `exchange` does, when it gets a turn: one for each connection.

    httpx' own pool looks at all requests that wait for a connection whenever one of them begins or ends.
    """
    request = _request(http, call, {})
    ends = time.monotonic() + call.seconds

    async def received() -> Answer:
        async with turns:
            progress.waiting = False
            return await answered()

    async def answered() -> Answer:
        async with aclosing(await http.send(request, stream=True)) as response:
            progress.answered = True
            body = _Body(response, most)
            if response.is_stream_consumed:
                body.add(response.content)
                return body.answer()
            async for piece in response.aiter_raw():
                body.add(piece)
                # Pieces that are there already are read without a turn of the loop, which would cancel this.
                if time.monotonic() >= ends:
                    raise TimeoutError
            return body.answer()

    with _explained(http, call.seconds) as progress:
        progress.waiting = True
        return await asyncio.wait_for(received(), call.seconds)


def _request(http: httpx.Client | httpx.AsyncClient, call: Call, extensions: dict[str, Any]) -> httpx.Request:
    if http.is_closed:
        raise ClientMisused("this client is closed: make a new one")
    try:
        return http.build_request(
            call.method,
            call.path,
            content=call.content,
            params=call.query,
            headers=call.headers,
            timeout=call.seconds,
            extensions=extensions,
        )
    except httpx.InvalidURL as error:
        raise ClientMisused(shown(f"the request has no URL: {error}")) from None


@dataclass
class _Progress:
    """The point to which an exchange has come."""

    waiting: bool = False
    """True while the call has no connection because others of this client have them all."""
    answered: bool = False


@contextmanager
def _explained(http: httpx.Client | httpx.AsyncClient, seconds: float) -> Iterator[_Progress]:
    """Turn exceptions of httpx and of the time limit into the client's own."""
    progress = _Progress()
    try:
        yield progress
    # Before Python 3.11 the one of asyncio is another.
    except (TimeoutError, asyncio.TimeoutError, httpx.ReadTimeout, httpx.WriteTimeout, httpx.PoolTimeout) as error:
        if progress.waiting or isinstance(error, httpx.PoolTimeout):
            text = f"this client had too many calls at once: {CONNECTIONS_MAX} others had the connections"
            raise GatewayUnreachable(f"{text} for {seconds:.3g} s", sent=False) from None
        raise GatewayUnreachable(f"{address_of(http.base_url)}: no whole answer within {seconds:.3g} s") from None
    except httpx.HTTPError as error:
        text = shown(f"{address_of(http.base_url)}: {type(error).__name__}: {error}")
        sent = not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
        broken = isinstance(error, httpx.NetworkError | httpx.RemoteProtocolError)
        raise GatewayUnreachable(text, sent, lost=sent and broken and not progress.answered) from error


def address_of(url: httpx.URL) -> str:
    """Return the address of a server for texts of errors: without a password."""
    return str(url.copy_with(userinfo=b"")).removesuffix("/")


def hide_location(answer: httpx.Response) -> None:
    """Move the header `Location` of a redirect out of httpx' sight: a hook for answers.

    httpx makes a request of a redirect also where it follows none, and the address in it raises exceptions of any kind.
    """
    if 300 <= answer.status_code < 400:
        answer.extensions[LOCATION] = answer.headers.pop("Location", "")


class _Body:
    """The body of an answer, unpacked as it comes."""

    def __init__(self, response: httpx.Response, most: int) -> None:
        self._response = response
        self._most = most
        self._content, self._received = bytearray(), 0
        self._unpack = _unpacker(response)

    def add(self, piece: bytes) -> None:
        """Take the next piece.

        Raises:
            UnusableAnswer: if the body is larger than it may be, or can't be unpacked.
        """
        self._received += len(piece)
        try:
            self._content += self._unpack(piece, self._most - len(self._content) + 1) if self._unpack else piece
        except zlib.error:
            raise UnusableAnswer(self._response.status_code, "it is not the gzip that it says") from None
        if max(self._received, len(self._content)) > self._most:
            reason = f"it is larger than {self._most:,} bytes (response_max_bytes)"
            raise UnusableAnswer(self._response.status_code, reason, self._content)

    def answer(self) -> Answer:
        """Return the answer with the pieces so far as its content."""
        response = self._response
        location = response.extensions.get(LOCATION, "")
        return Answer(response.status_code, response.headers, location, self._content)


def _unpacker(answer: httpx.Response) -> Callable[[bytes, int], bytes] | None:
    """Return the function that unpacks a piece of the body to a number of bytes at most; None if it is not packed.

    The gateway compresses large answers, and a proxy may compress all.

    Raises:
        UnusableAnswer: if it is packed in a way that the client did not ask for.
    """
    coding = answer.headers.get("Content-Encoding", "").lower()
    if coding in ("", "identity") or answer.is_stream_consumed:
        return None
    if coding not in ("gzip", "x-gzip"):
        raise UnusableAnswer(answer.status_code, f"its content coding is {coding!r}")
    return zlib.decompressobj(16 + zlib.MAX_WBITS).decompress


def _left(timeout: float | None) -> float | None:
    """Return the seconds that are left of the current request; the given time if there is none.

    Raises:
        TimeoutError: if none are left.
    """
    ends = _ends.get()
    if ends == math.inf:
        # Another user of the transport that the caller passed to the client.
        return timeout
    left = ends - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _observe(event: str, parts: Mapping[str, Any]) -> None:
    """Bound the stream of a new connection; httpx calls this function with each of its steps (extension `trace`)."""
    if event.endswith((".connect_tcp.complete", ".connect_unix_socket.complete", ".start_tls.complete")):
        _bound(parts["return_value"])


def _bound(stream: Any) -> None:
    read, write = stream.read, stream.write

    def bounded_read(max_bytes: int, timeout: float | None = None) -> bytes:
        received: bytes = read(max_bytes, timeout=_left(timeout))
        return received

    def bounded_write(buffer: bytes, timeout: float | None = None) -> None:
        for start in range(0, len(buffer), WRITTEN_BYTES):
            write(buffer[start : start + WRITTEN_BYTES], timeout=_left(timeout))

    stream.read, stream.write = bounded_read, bounded_write
