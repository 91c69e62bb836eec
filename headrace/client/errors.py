"""Errors of the client.

HeadraceError
├── ProblemError             the gateway answered with an error (RFC 9457 problem details)
│   ├── InvalidRequest       400, 413, 415 or 422: the request or its rows don't fit the model, or it refused them
│   ├── Unauthorized         401 or 403: no valid API key, or its scopes don't suffice
│   ├── NotFound             404: the model, version or job is unknown
│   ├── ResultExpired        410: the job succeeded, and its result made room for newer ones
│   ├── RateLimited          429: more requests, or more jobs, than the API key allows
│   ├── Unavailable          503: overloaded, or a part of the service is down
│   └── DeadlineExceeded     504: no prediction before the deadline
├── JobFailed                a job ended without a result
├── JobUnfinished            a job has not ended in the time that the caller waits (also a TimeoutError)
├── UnusableAnswer           the answer is not a gateway's: of another form, no JSON, or too large
├── GatewayUnreachable       there was no answer, or no whole one in time
├── UnusableRows             what should be rows is something else (also a TypeError)
└── ClientMisused            a client with a wrong address, or one that is closed (also a ValueError)
"""

import re
from functools import partial
from typing import Any

from headrace.client.forms import Mistake, Problem
from headrace.errors import HeadraceError
from headrace.terminal import one_line

ERRORS_SHOWN = 5
"""Number of wrong values that the text of an error names; all are in its `members`."""

TEXT_SHOWN = 2000
"""Characters of an error's text; the rest is left out."""

TOO_LARGE = 413

_POINTER = re.compile(r"^/instances/([0-9]{1,9})(?=/|$)")

BEGINNING_SHOWN = 120
"""Bytes of an answer that the text of an error shows."""


def shown(text: str) -> str:
    """Return a text with parts of a server's answer as an error shows it: on one line, escaped, and not too long."""
    line = one_line(text[: TEXT_SHOWN + 1])
    return line if len(line) <= TEXT_SHOWN else f"{line[:TEXT_SHOWN]}…"


def beginning(content: bytes | bytearray) -> str:
    """Return the first bytes of an answer as a text in quotes."""
    return repr(content[:BEGINNING_SHOWN].decode(errors="replace")) + ("…" if len(content) > BEGINNING_SHOWN else "")


class ProblemError(HeadraceError):
    """An error that the gateway answered with.

    Attributes:
        code: the stable name of the problem, such as `invalid_rows`; empty if the answer was no problem document.
        status: the HTTP status.
        detail: a sentence for people.
        retry_after: seconds to wait before another attempt, or None.
        members: the whole problem document, such as `errors` with a JSON pointer for each wrong value, or `rows` with
            the positions of the rows that the model refused.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        retry_after: float | None = None,
        members: dict[str, Any] | None = None,
    ) -> None:
        members = members or {}
        head = f"{status} {code}: {detail}" if code else f"{status}: {detail}"
        self.status = status
        self.code = code
        self.detail = detail
        self.retry_after = retry_after
        self.members = members
        super().__init__(shown(head + _where(self.mistakes())))

    def mistakes(self) -> list[Mistake]:
        """Return the wrong values that the problem document names."""
        return Problem.model_validate(self.members).errors


class InvalidRequest(ProblemError):
    """The request is malformed, or its rows don't fit the model."""

    @property
    def is_too_large(self) -> bool:
        """True if the gateway finds fault with the rows as a whole, such as their number or size."""
        pointers = {mistake.pointer for mistake in self.mistakes() if not mistake.parameter}
        return self.status == TOO_LARGE or bool(pointers & {"", "/instances"})

    @property
    def rows(self) -> list[int]:
        """Positions of the rows that the error names, from 0; empty if it names none."""
        refused = self.members.get("rows")
        named = (_POINTER.match(mistake.pointer) for mistake in self.mistakes())
        return sorted({*_whole(refused), *(int(found[1]) for found in named if found)})

    def moved(self, rows: int) -> "InvalidRequest":
        """Return the error with positions that are so many rows further on."""
        members = dict(self.members)
        if "rows" in members:
            members["rows"] = [row + rows for row in _whole(members["rows"])]
        if "errors" in members:
            members["errors"] = [
                {**mistake.model_dump(), "pointer": _POINTER.sub(partial(_moved, rows), mistake.pointer)}
                for mistake in self.mistakes()
            ]
        return type(self)(self.status, self.code, self.detail, self.retry_after, members)


class Unauthorized(ProblemError):
    """The API key is missing or unknown, or its scopes don't suffice."""


class NotFound(ProblemError):
    """The model, version or job is unknown, or the job aged out."""


class ResultExpired(ProblemError):
    """The job succeeded, and its result made room for newer ones; `members["job"]` is the job without it."""


class RateLimited(ProblemError):
    """The API key allows no more requests at the moment."""


class Unavailable(ProblemError):
    """The service is overloaded, or a part of it is down."""


class DeadlineExceeded(ProblemError):
    """There was no prediction before the deadline."""


class JobFailed(HeadraceError):
    """A job ended as failed, cancelled or expired.

    Attributes:
        status: the status that the job ended with.
        code: the stable name of the error, such as `row_rejected`; empty if the job has none.
        rows: positions of the first failing rows, from 0; empty if all failed.
        count: number of rows that are known to fail.
    """

    def __init__(self, job_id: str, status: str, error: dict[str, Any]) -> None:
        self.code: str = error.get("code", "")
        self.rows: list[int] = error.get("rows") or []
        self.count: int = error.get("count") or len(self.rows)
        self.status = status
        reason = f": {error['code']}: {error['message']}" if error else ""
        super().__init__(shown(f"job {job_id} is {status}{reason}"))


class JobUnfinished(HeadraceError, TimeoutError):
    """A job has not ended in the time for which the caller waits; it goes on."""


class UnusableRows(HeadraceError, TypeError):
    """Rows are neither mappings nor a data frame, or have a value that can't be sent."""


class ClientMisused(HeadraceError, ValueError):
    """The client can't send a request: its address is wrong, it is closed, or an argument is wrong or missing."""


class GatewayUnreachable(HeadraceError):
    """The gateway can't be reached, or did not answer as a whole within the client's timeout.

    Attributes:
        sent: False if there was no connection, so that the gateway has not got the request.
        lost: True if the connection ended before an answer began.
    """

    def __init__(self, text: str, sent: bool = True, lost: bool = False) -> None:
        self.sent = sent
        self.lost = lost
        super().__init__(text)


class UnusableAnswer(HeadraceError):
    """The answer is not a gateway's: its document has another form, it is no JSON, or it is too large.

    Attributes:
        status: the HTTP status.
    """

    def __init__(self, status: int, reason: str, content: bytes | bytearray = b"") -> None:
        self.status = status
        begins = f"; it begins with {beginning(content)}" if content else ""
        super().__init__(shown(f"the answer ({status}) is not a gateway's: {reason}{begins}"))


def _whole(numbers: Any) -> list[int]:
    return [each for each in numbers if type(each) is int] if isinstance(numbers, list) else []


def _moved(rows: int, pointer: re.Match[str]) -> str:
    return f"/instances/{int(pointer[1]) + rows}"


def _where(mistakes: list[Mistake]) -> str:
    """Return wrong values as the end of a sentence."""
    named = [f"{each.pointer or each.parameter}: {each.detail}" for each in mistakes]
    more = f", and {len(named) - ERRORS_SHOWN} more" if len(named) > ERRORS_SHOWN else ""
    return f" ({'; '.join(named[:ERRORS_SHOWN])}{more})" if named else ""
