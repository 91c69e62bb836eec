"""Complete responses leave in one write.

ASGI hands over head and body one after the other, and uvicorn checks and writes each by itself: that was a quarter of
the gateway's time, half of it for the second system call. The protocol therefore offers each request a
`RequestContext.write_response` that takes both at once.
"""

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from gateway.problems import CONTENT_TYPE, Problem
from gateway.web.request_context import HeaderPairs


def write_response(cycle: RequestResponseCycle, status: int, headers: HeaderPairs, body: bytes) -> bool:
    """Answer a request of uvicorn's in one write.

    Returns:
        False, with nothing sent, if the response must go through ASGI: a response has begun, the caller has left, or
        the transport's buffer is full.
    """
    if cycle.response_started or cycle.disconnected or cycle.flow.write_paused:
        return False
    lines = [b"%b: %b\r\n" % header for header in (*cycle.default_headers, *headers)]
    if not cycle.keep_alive:
        lines.append(b"connection: close\r\n")
    cycle.transport.write(b"%b%b\r\n%b" % (STATUS_LINE[status], b"".join(lines), body))
    # The state in which uvicorn leaves a cycle after the last piece of a body.
    cycle.waiting_for_100_continue = False
    cycle.response_started = cycle.response_complete = True
    cycle.message_event.set()
    if not cycle.keep_alive:
        cycle.transport.close()
    cycle.on_response()
    return True


def refusal(problem: Problem) -> bytes:
    """Return a complete response with a problem, the last one of its connection."""
    body = problem.body()
    headers = {
        "content-type": CONTENT_TYPE,
        "content-length": str(len(body)),
        "connection": "close",
        **problem.headers,
    }
    lines = b"".join(f"{name}: {value}\r\n".encode() for name, value in headers.items())
    return STATUS_LINE[problem.status] + lines + b"\r\n" + body
