"""Answers that are complete when they begin leave in one write.

ASGI hands over head and body one after the other, and uvicorn checks and writes each by itself: that was a quarter of
the gateway's time, half of it for the second system call. So the protocol leaves in a request's scope what takes both
at once, and who can, uses it.
"""

from collections.abc import Callable, Iterable

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

WHOLE = "headrace.whole"
"""Key of a request's scope: takes an answer, if the server can."""

RawHeaders = Iterable[tuple[bytes, bytes]]
"""Names in lower case. They are written as they are, so they must not come from a caller unchecked."""

TakesWhole = Callable[[int, RawHeaders, bytes], bool]
"""Takes status, headers and body; False if it must go the usual way: nothing was sent then."""


def send_whole(cycle: RequestResponseCycle, status: int, headers: RawHeaders, body: bytes) -> bool:
    """Answer a request of uvicorn's; False if that must go the usual way."""
    if cycle.response_started or cycle.disconnected or cycle.flow.write_paused:
        return False
    lines = [b"%b: %b\r\n" % header for header in (*cycle.default_headers, *headers)]
    if not cycle.keep_alive:
        lines.append(b"connection: close\r\n")
    cycle.transport.write(b"%b%b\r\n%b" % (STATUS_LINE[status], b"".join(lines), body))
    # As uvicorn leaves it behind when the last piece of a body is sent.
    cycle.waiting_for_100_continue = False
    cycle.response_started = cycle.response_complete = True
    cycle.message_event.set()
    if not cycle.keep_alive:
        cycle.transport.close()
    cycle.on_response()
    return True
