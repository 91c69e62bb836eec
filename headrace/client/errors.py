"""Errors of the client.

HeadraceError
├── ProblemError             the gateway answered with an error (RFC 9457 problem details)
│   ├── InvalidRequest       400, 413, 415 or 422: the request or its rows don't fit the model
│   ├── Unauthorized         401 or 403: no valid API key, or its scopes don't suffice
│   ├── NotFound             404: the model, version or job is unknown
│   ├── ResultExpired        410: the job succeeded, and its result made room for newer ones
│   ├── RateLimited          429: more requests than the API key allows
│   ├── Unavailable          503: overloaded, or a part of the service is down
│   └── DeadlineExceeded     504: no prediction before the deadline
├── JobFailed                a job ended without a result
└── GatewayUnreachable       there was no answer at all
"""

from typing import Any

from headrace.errors import HeadraceError


class ProblemError(HeadraceError):
    """An error that the gateway answered with.

    Attributes:
        code: the stable name of the problem, such as `invalid_rows`; empty if the answer was no problem document.
        status: the HTTP status.
        detail: a sentence for people.
        retry_after: seconds to wait before another attempt, or None.
        members: the whole problem document, such as `errors` with a JSON pointer for each wrong value.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        retry_after: float | None = None,
        members: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(f"{status} {code}: {detail}" if code else f"{status}: {detail}")
        self.status = status
        self.code = code
        self.detail = detail
        self.retry_after = retry_after
        self.members = members or {}


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
        code: the stable name of the error, such as `prediction_failed`; empty if the job has none.
        rows: positions of the failing rows, from 0; empty if all failed.
    """

    def __init__(self, job_id: str, status: str, error: dict[str, Any]) -> None:
        self.code: str = error.get("code", "")
        self.rows: list[int] = error.get("rows", [])
        self.status = status
        super().__init__(f"job {job_id} is {status}" + (f": {error['code']}: {error['message']}" if error else ""))


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
