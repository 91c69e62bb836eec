"""One request and its answer, bounded in time and memory whatever the server sends.

httpx bounds the time of each read and write, not their sum, and no memory. So the streams of its connections get reads
and writes here that end when the time of the request does, and the body of an answer is unpacked up to a limit. Finding
the address of a host and connecting are single calls of the system, of which each address has the whole time.
"""

import math
import re
import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import httpx

from headrace.client.errors import ClientMisused, GatewayUnreachable, UnusableAnswer, shown

RESPONSE_MAX_BYTES = 32_000_000
"""Bytes of an answer's body, also unpacked: twice the largest answer of a gateway as delivered (ANSWER_MAX_BYTES)."""

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


def exchange(http: httpx.Client, method: str, path: str, seconds: float, most: int, **parts: Any) -> Answer:
    """Send a request and return the answer, whatever its status.

    Args:
        http: the connections to the server.
        method: method of the request.
        path: path of the request, below the base URL of `http`.
        seconds: time for the whole request.
        most: bytes of the answer's body at most.
        parts: further arguments of `httpx.Client.build_request`.

    Raises:
        GatewayUnreachable: if there is no whole answer in this time.
        UnusableAnswer: if its body is larger, or can't be unpacked.
        ClientMisused: if the path or a parameter is too long for a URL.
    """
    try:
        request = http.build_request(method, path, timeout=seconds, extensions={"trace": _observe}, **parts)
    except httpx.InvalidURL as error:
        raise ClientMisused(shown(f"the request has no URL: {error}")) from None
    token = _ends.set(time.monotonic() + seconds)
    try:
        _left(None)
        with closing(http.send(request, stream=True)) as answer:
            location = answer.extensions.get(LOCATION, "")
            return Answer(answer.status_code, answer.headers, location, _content(answer, most))
    except (TimeoutError, httpx.ReadTimeout, httpx.WriteTimeout):
        raise GatewayUnreachable(f"{address_of(http)}: no whole answer within {seconds:.3g} s") from None
    except httpx.HTTPError as error:
        raise GatewayUnreachable(shown(f"{address_of(http)}: {type(error).__name__}: {error}")) from error
    finally:
        _ends.reset(token)


def address_of(http: httpx.Client) -> httpx.URL:
    """Return the address of the server for texts of errors: without a password."""
    return http.base_url.copy_with(userinfo=b"")


def hide_location(answer: httpx.Response) -> None:
    """Move the header `Location` of a redirect out of httpx' sight: a hook for answers.

    httpx makes a request of a redirect also where it follows none, and the address in it raises exceptions of any kind.
    """
    if 300 <= answer.status_code < 400:
        answer.extensions[LOCATION] = answer.headers.pop("Location", "")


def _content(answer: httpx.Response, most: int) -> bytes | bytearray:
    """Return the body, unpacked.

    Raises:
        UnusableAnswer: if it is larger than `most` bytes, or can't be unpacked.
        TimeoutError: if the time of the request is over.
    """
    content, received = bytearray(), 0
    unpack = _unpacker(answer)
    # A transport for tests may have read it.
    pieces: Iterable[bytes] = (answer.content,) if answer.is_stream_consumed else answer.iter_raw()
    try:
        for piece in pieces:
            received += len(piece)
            content += unpack(piece, most - len(content) + 1) if unpack else piece
            if max(received, len(content)) > most:
                reason = f"it is larger than {most:,} bytes (response_max_bytes)"
                raise UnusableAnswer(answer.status_code, reason, content)
            _left(None)
    except zlib.error:
        raise UnusableAnswer(answer.status_code, "it is not the gzip that it says") from None
    return content


def _unpacker(answer: httpx.Response) -> Callable[[bytes, int], bytes] | None:
    """Return the function that unpacks a piece of the body to a number of bytes at most; None if it is not packed.

    The gateway compresses nothing, but a proxy may.

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
