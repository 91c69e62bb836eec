"""Errors that a caller can get, as RFC 9457 problem details. Input is never echoed."""

import math
import random
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import orjson
from starlette.responses import Response

CONTENT_TYPE = "application/problem+json"

PARAMETERS_MAX = 100
"""Parameters in a query at most."""

MISTAKES_SHOWN = 3
"""Wrong values that the text of an error names; its member `errors` has more."""


@dataclass(eq=False)
class Problem(Exception):
    """An error response. `code` makes the stable `type` URI; `extra` holds further members of the body."""

    status: int
    code: str
    detail: str
    headers: dict[str, str] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)

    def body(self) -> bytes:
        """Return the JSON document."""
        return orjson.dumps(
            {
                "type": f"urn:headrace:problem:{self.code}",
                "title": HTTPStatus(self.status).phrase,
                "status": self.status,
                "detail": self.detail,
                **self.extra,
            }
        )

    def response(self) -> Response:
        """Return the response."""
        return Response(self.body(), self.status, self.headers, CONTENT_TYPE)


def retry_after(seconds: float) -> dict[str, str]:
    """Return the header `Retry-After`: whole seconds, at least these, with jitter.

    Callers who are refused together must not come back together, even after a short wait.
    """
    return {"Retry-After": str(max(1, math.ceil(random.uniform(seconds, 1.5 * seconds + 1))))}


def overloaded(code: str, detail: str, retry_after_seconds: float) -> Problem:
    """Return a 503 with `Retry-After`: the gateway, not the request, is at fault."""
    return Problem(503, code, detail, retry_after(retry_after_seconds))


def too_many_parameters() -> Problem:
    """Return the refusal of a query with more than `PARAMETERS_MAX` parameters."""
    return Problem(422, "invalid_parameter", f"a query has at most {PARAMETERS_MAX} parameters")


def stopping() -> Problem:
    """Return the 503 for a request that the gateway can't answer before it stops."""
    return overloaded("stopping", "the gateway is stopping: send the request again", 1)


def error_text(problem: Problem) -> str:
    """Return the text of a problem, with its first mistakes."""
    text = problem.detail
    mistakes = problem.extra.get("errors", [])[:MISTAKES_SHOWN]
    if mistakes:
        text += ": " + "; ".join(f"{each.get('pointer', each.get('parameter'))} {each['detail']}" for each in mistakes)
    return text


def error_body(problem: Problem) -> bytes:
    """Return a problem as other servers have errors: `error` is its text. The members of problem details stand beside.

    Triton, KServe and TensorFlow Serving do so.
    """
    return orjson.dumps({"error": error_text(problem), **orjson.loads(problem.body())})
