"""The commands for callers of a gateway, by name: the others do not load the client."""

from collections.abc import Sequence
from importlib import import_module

SUMMARIES = {
    "predict": "ask a gateway for predictions, and wait for them",
    "submit": "submit rows to a gateway as a job, which survives restarts of the service",
    "wait": "wait for the result of a job",
    "cancel": "cancel a job that has not ended",
    "job": "show the state of a job, and its result if it has one",
    "jobs": "list your jobs, the last one first",
    "models": "list the models of a gateway",
    "describe": "describe a version of a model as a gateway serves it: features, outputs, aliases",
    "health": "show the state of a gateway",
    "client-types": "write a Python module with the types of a model's rows, for type checkers",
}


def run(name: str, arguments: Sequence[str]) -> int:
    """Run a command, and return its exit code."""
    code: int = import_module("headrace.cli.calls.caller").run(name, arguments)
    return code
