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
├── GatewayUnreachable       there was no answer at all
├── UnusableRows             what should be rows is something else (also a TypeError)
└── ClientMisused            a client with a wrong address, or one that is closed (also a ValueError)
"""

from typing import Any

from headrace.errors import HeadraceError

ERRORS_SHOWN = 5
"""Number of wrong values that the text of an error names; all are in its `members`."""


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
        super().__init__(head + _where(members.get("errors")))
        self.status = status
        self.code = code
        self.detail = detail
        self.retry_after = retry_after
        self.members = members


class InvalidRequest(ProblemError):
    """The request is malformed, or its rows don't fit the model."""


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
        self.rows: list[int] = error.get("rows", [])
        self.count: int = error.get("count") or len(self.rows)
        self.status = status
        super().__init__(f"job {job_id} is {status}" + (f": {error['code']}: {error['message']}" if error else ""))


class JobUnfinished(HeadraceError, TimeoutError):
    """A job has not ended in the time for which the caller waits; it goes on."""


class UnusableRows(HeadraceError, TypeError):
    """Rows are neither mappings nor a data frame, or have a value that can't be sent."""


class ClientMisused(HeadraceError, ValueError):
    """The client can't send a request: its address is wrong, it is closed, or an argument is missing."""


class GatewayUnreachable(HeadraceError):
    """The gateway can't be reached, or did not answer within the client's timeout."""


_BY_STATUS: dict[int, type[ProblemError]] = {
    400: InvalidRequest,
    401: Unauthorized,
    403: Unauthorized,
    404: NotFound,
    410: ResultExpired,
    413: InvalidRequest,
    415: InvalidRequest,
    422: InvalidRequest,
    429: RateLimited,
    503: Unavailable,
    504: DeadlineExceeded,
}

PROBLEM_PREFIX = "urn:headrace:problem:"


def problem_error(status: int, document: dict[str, Any], retry_after: float | None) -> ProblemError:
    """Return the error for a problem document; an empty one for an answer of something else, such as a proxy."""
    code = str(document.get("type", "")).removeprefix(PROBLEM_PREFIX)
    detail = str(document.get("detail", "an answer without problem details"))
    return _BY_STATUS.get(status, ProblemError)(status, code, detail, retry_after, document)


def _where(errors: Any) -> str:
    """Return the wrong values that a problem document names, as the end of a sentence."""
    if not isinstance(errors, list):
        return ""
    named = [
        f"{error.get('pointer') or error.get('parameter')}: {error.get('detail')}"
        for error in errors
        if isinstance(error, dict)
    ]
    more = f", and {len(named) - ERRORS_SHOWN} more" if len(named) > ERRORS_SHOWN else ""
    return f" ({'; '.join(named[:ERRORS_SHOWN])}{more})" if named else ""
