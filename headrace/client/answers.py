"""Answers as documents of the form that the gateway's have, or as exceptions."""

from typing import Any

import orjson
from pydantic import ValidationError

from headrace.client import errors
from headrace.client.exchange import Answer
from headrace.client.forms import Form, Health, Problem
from headrace.errors import HeadraceError

PROBLEM_PREFIX = "urn:headrace:problem:"

SMALL_BYTES = 1_000_000
"""Size up to which the memory for an answer's values needs no bound of its own."""

BYTES_PER_PART = 16
"""Bytes of a large answer for each of its values, lists and objects: the most parts are the most bytes divided by it.

A gateway counts 8 or more for a value, and its answers have half of the most bytes. Within this bound the objects of an
answer take some 15 times the most bytes, without it 30 times.
"""

_BY_STATUS: dict[int, type[errors.ProblemError]] = {
    400: errors.InvalidRequest,
    401: errors.Unauthorized,
    403: errors.Unauthorized,
    404: errors.NotFound,
    410: errors.ResultExpired,
    413: errors.InvalidRequest,
    415: errors.InvalidRequest,
    422: errors.InvalidRequest,
    429: errors.RateLimited,
    503: errors.Unavailable,
    504: errors.DeadlineExceeded,
}

_NO_ROUTE = "the gateway has no such path; the client's URL should be the gateway's root, such as http://127.0.0.1:8000"

_OF_RESOURCES = frozenset({404, 410})
"""Statuses that say something about a model or job only in a gateway's problem; other servers mean pages of theirs."""


def document_of(answer: Answer, form: type[Form] | None, most: int) -> dict[str, Any]:
    """Return the document of a successful answer as it is, checked against a form.

    The summary of a gateway that does not serve comes with 503, and is its document all the same.

    Args:
        answer: the answer.
        form: the form of its document; None if no document is wanted.
        most: bytes that an answer may have.

    Raises:
        ProblemError: if the answer is an error; of the subclass for its status.
        UnusableAnswer: if it is of another form, or a 404 or 410 of something else than a gateway.
    """
    succeeded = 200 <= answer.status < 300
    if not succeeded and (form is not Health or answer.status != 503):
        raise _problem_error(answer, most)
    if form is None:
        return {}
    try:
        document: dict[str, Any] = _loaded(answer.content, most)
        form.model_validate(document)
    except ValueError as error:
        if not succeeded:
            raise _problem_error(answer, most) from None
        raise errors.UnusableAnswer(answer.status, _reason(error), answer.content) from None
    return document


def documents_of(answer: dict[str, Any], first: int, count: int) -> list[dict[str, Any]]:
    """Return predictions of several rows as a document for each, of the form that the answer to one row has.

    Args:
        answer: the document with the predictions.
        first: position of the first row, which becomes the member `row`.
        count: number of the rows.

    Raises:
        UnusableAnswer: if there are more or fewer predictions.
    """
    predictions, probabilities = answer["predictions"], answer.get("probabilities")
    if not len(predictions) == count == len(predictions if probabilities is None else probabilities):
        raise errors.UnusableAnswer(200, f"it has not one prediction for each of {count} rows")
    common = {name: answer[name] for name in ("model", "version") if name in answer}
    documents = [{"row": first + at, "prediction": each, **common} for at, each in enumerate(predictions)]
    for document, each in zip(documents, probabilities or [], strict=False):
        document["probabilities"] = each
    return documents


def _problem_error(answer: Answer, most: int) -> HeadraceError:
    """Return the error for problem details, or for the answer of something else, such as a proxy."""
    try:
        members = _loaded(answer.content, most)
        problem = Problem.model_validate(members)
    except ValueError:
        members, problem = {}, Problem()
    if answer.status in _OF_RESOURCES and not problem.type.startswith(PROBLEM_PREFIX):
        return errors.UnusableAnswer(answer.status, "it is no problem of Headrace; is the URL right?", answer.content)
    code = problem.type.removeprefix(PROBLEM_PREFIX)
    detail = _NO_ROUTE if code == "not_found" else problem.detail or _without_details(answer)
    return _BY_STATUS.get(answer.status, errors.ProblemError)(answer.status, code, detail, answer.retry_after, members)


def _without_details(answer: Answer) -> str:
    if answer.location and 300 <= answer.status < 400:
        return f"it redirects to {answer.location!r}, which this client does not follow"
    begins = f"; it begins with {errors.beginning(answer.content)}" if answer.content else ""
    return f"an answer without problem details{begins}"


def _loaded(content: bytes | bytearray, most: int) -> Any:
    """Parse JSON.

    Raises:
        ValueError: if it is none, or has too many values.
    """
    if len(content) > SMALL_BYTES:
        parts = sum(content.count(mark) for mark in (b",", b"[", b"{"))
        if parts > most // BYTES_PER_PART:
            raise ValueError(f"it has more than {most // BYTES_PER_PART:,} values (response_max_bytes)")
    return orjson.loads(content)


def _reason(error: ValueError) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        return ": ".join([*(str(part) for part in first["loc"]), first["msg"]])
    if isinstance(error, orjson.JSONDecodeError):
        return f"it is no JSON: {error.msg}"
    return str(error)
