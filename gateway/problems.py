"""Every error that a caller can meet, as RFC 9457 problem details. Input is never echoed."""

import math
import random
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import orjson
from starlette.responses import Response

CONTENT_TYPE = "application/problem+json"


@dataclass(eq=False)
class Problem(Exception):
    """An error answer. `code` makes the stable `type` URI; `extra` are further members of the body."""

    status: int
    code: str
    detail: str
    headers: dict[str, str] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)

    def body(self) -> bytes:
        """The JSON document."""
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
        """The answer."""
        return Response(self.body(), self.status, self.headers, CONTENT_TYPE)


def retry_after(seconds: float) -> dict[str, str]:
    """The header `Retry-After`: whole seconds, not less than these, and jittered.

    Those who were turned away together must not come back together, also if the wait is short.
    """
    return {"Retry-After": str(max(1, math.ceil(random.uniform(seconds, 1.5 * seconds + 1))))}


def overloaded(code: str, detail: str, retry_after_seconds: float) -> Problem:
    """503 for a state of ours."""
    return Problem(503, code, detail, retry_after(retry_after_seconds))
