"""Problems as gRPC has errors: a status code, a text, and details in the metadata."""

from typing import Any

import grpc

from gateway.problems import Problem, error_text
from gateway.rpc.messages import RPC, message_class

DETAILS = "grpc-status-details-bin"
"""Metadata of the details."""

TEXT_BYTES_MAX = 1000
"""Longest text of an error. The status has it twice, and clients refuse answers with more than 8 KiB of metadata."""

DOMAIN = "headrace"

TYPE_URL = "type.googleapis.com/google.rpc."

_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
"""Codes by HTTP status."""

_FULL = frozenset({"answers_full", "bodies_full", "connections_full", "overloaded", "queue_full"})
"""Problems of an overload: KServe's client would send a call with UNAVAILABLE three times more at once."""


def code_of(problem: Problem) -> grpc.StatusCode:
    """Return the status code of a problem."""
    if problem.code in _FULL:
        return grpc.StatusCode.RESOURCE_EXHAUSTED
    return _CODES.get(problem.status, grpc.StatusCode.INTERNAL)


def status_of(problem: Problem) -> tuple[grpc.StatusCode, str, bytes]:
    """Return the status code of a problem, its text, and its details: the reason, and when to try again."""
    code, text = code_of(problem), _shortened(error_text(problem))
    number: Any = code.value[0]
    status = message_class(RPC, "Status")(code=number, message=text)
    reason = message_class(RPC, "ErrorInfo")(reason=problem.code.upper(), domain=DOMAIN)
    status.details.add(type_url=f"{TYPE_URL}ErrorInfo", value=reason.SerializeToString())
    seconds = problem.headers.get("Retry-After")
    if seconds is not None:
        retry = message_class(RPC, "RetryInfo")(retry_delay={"seconds": int(seconds)})
        status.details.add(type_url=f"{TYPE_URL}RetryInfo", value=retry.SerializeToString())
    return code, text, status.SerializeToString()


def _shortened(text: str) -> str:
    encoded = text.encode()
    return text if len(encoded) <= TEXT_BYTES_MAX else f"{encoded[:TEXT_BYTES_MAX].decode('utf-8', 'ignore')}…"
