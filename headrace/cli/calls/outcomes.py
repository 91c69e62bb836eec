"""The outcomes of a call: exit codes, and errors as a line for people or as problem details for machines."""

import re
import sys
from typing import Any

from headrace.cli.calls.output import as_json
from headrace.client import errors
from headrace.errors import HeadraceError
from headrace.terminal import PIPE_CLOSED, one_line, reason

FAILED, WRONG, UNAUTHORIZED, REFUSED, LATE, JOB_FAILED, JOB_ENDED = range(1, 8)
INTERRUPTED = 130

EXIT_CODES = {
    0: "success",
    FAILED: "failed otherwise, also an answer that is not a gateway's",
    WRONG: "wrong arguments, settings or rows; an unknown model or job",
    UNAUTHORIZED: "no valid API key, or its scopes don't suffice",
    REFUSED: "the gateway is overloaded, not serving or not reachable: try again later",
    LATE: "no prediction before the deadline, or no outcome of a job within --timeout",
    JOB_FAILED: "the job failed",
    JOB_ENDED: "the job was cancelled, expired, or its result made room for newer ones",
    INTERRUPTED: "CTRL+C",
    PIPE_CLOSED: "the program that reads the output ended first",
}


class WrongArgument(HeadraceError):
    """An argument, a setting or a row of a call that can't be used; no row was sent."""


_CODES: dict[type[BaseException], int] = {
    WrongArgument: WRONG,
    errors.InvalidRequest: WRONG,
    errors.NotFound: WRONG,
    errors.UnusableRows: WRONG,
    errors.ClientMisused: WRONG,
    errors.Unauthorized: UNAUTHORIZED,
    errors.RateLimited: REFUSED,
    errors.Unavailable: REFUSED,
    errors.GatewayUnreachable: REFUSED,
    errors.DeadlineExceeded: LATE,
    errors.JobUnfinished: LATE,
    errors.ResultExpired: JOB_ENDED,
    KeyboardInterrupt: INTERRUPTED,
}

POSITIONS_SHOWN = 10
"""Refused rows that an error names at most."""

_POINTER = re.compile(r"/instances/([0-9]{1,9})(?:/|$)")


class Stopped(HeadraceError):
    """A call that did not come to its end, and how far it came.

    Attributes:
        cause: the error that stopped it.
        place: how far it came, for people.
        members: the same, for machines.
        first: the position of the first row of the request that failed, from 0.
    """

    def __init__(self, cause: BaseException, place: str, members: dict[str, Any], first: int = 0) -> None:
        self.cause = cause
        self.place = place
        self.members = members
        self.first = first
        super().__init__(place)


def exit_code(error: BaseException) -> int:
    """Return the exit code for an error."""
    if isinstance(error, Stopped):
        return exit_code(error.cause)
    if isinstance(error, errors.JobFailed):
        return JOB_FAILED if error.status == "failed" else JOB_ENDED
    return next((code for kind, code in _CODES.items() if isinstance(error, kind)), FAILED)


def complain(error: BaseException, for_machines: bool) -> int:
    """Print an error to the standard error, and return its exit code."""
    code = exit_code(error)
    line = as_json({**_problem(error), "exit_code": code}) if for_machines else f"headrace: {one_line(_text(error))}"
    print(line, file=sys.stderr)
    return code


def _text(error: BaseException, first: int = 0) -> str:
    """Return an error for people; `first` is the position of the first row of the request."""
    if isinstance(error, Stopped):
        return f"{_text(error.cause, error.first)} ({error.place})"
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    numbers = [str(first + position + 1) for position in _positions(error)]
    more = ", …" if len(numbers) > POSITIONS_SHOWN else ""
    rows = f" (rows {', '.join(numbers[:POSITIONS_SHOWN])}{more})" if numbers else ""
    return f"{reason(error)}{rows}" if isinstance(error, Exception) else str(error)


def _positions(error: BaseException) -> list[int]:
    """Return the positions of the rows that were refused, as far as the error names them."""
    if isinstance(error, errors.JobFailed):
        return error.rows
    if not isinstance(error, errors.ProblemError):
        return []
    refused = error.members.get("rows")
    positions = {each for each in refused if isinstance(each, int)} if isinstance(refused, list) else set()
    pointers = (_POINTER.match(mistake.pointer) for mistake in error.mistakes())
    return sorted(positions.union(int(found[1]) for found in pointers if found))


def _problem(error: BaseException) -> dict[str, Any]:
    """Return an error as problem details."""
    if isinstance(error, Stopped):
        return {**_problem(error.cause), **error.members}
    if isinstance(error, errors.ProblemError):
        members = error.members or {"type": "about:blank", "detail": error.detail, "status": error.status}
        return {**members, "retry_after": error.retry_after} if error.retry_after is not None else members
    name = "interrupted" if isinstance(error, KeyboardInterrupt) else type(error).__name__
    code = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
    problem: dict[str, Any] = {"type": f"urn:headrace:problem:{code}", "detail": _text(error)}
    if isinstance(error, errors.JobFailed):
        problem |= {"job_status": error.status, "code": error.code, "rows": error.rows, "count": error.count}
    return problem
