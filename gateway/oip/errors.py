"""Errors in the form of the Open Inference Protocol."""

import orjson

from gateway.problems import Problem

MISTAKES_SHOWN = 3
"""Wrong values that the text of an error names; its member `errors` has more."""


def error_text(problem: Problem) -> str:
    """Return the text of a problem, with its first mistakes."""
    text = problem.detail
    mistakes = problem.extra.get("errors", [])[:MISTAKES_SHOWN]
    if mistakes:
        text += ": " + "; ".join(f"{each.get('pointer', each.get('parameter'))} {each['detail']}" for each in mistakes)
    return text


def error_body(problem: Problem) -> bytes:
    """Return a problem as the protocol has errors: `error` is its text. The members of problem details stand beside."""
    return orjson.dumps({"error": error_text(problem), **orjson.loads(problem.body())})
