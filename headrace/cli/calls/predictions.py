"""The commands that get predictions: `predict`, `submit`, `wait`."""

import argparse
import math
import time
from typing import Any, NamedTuple

from headrace.cli.calls.features import Features, Row
from headrace.cli.calls.outcomes import Stopped
from headrace.cli.calls.output import PredictionPrinter, print_document, rows_of
from headrace.cli.calls.portions import in_portions, stopped_at
from headrace.cli.calls.rows import add_options, check_source, model_of, read_rows
from headrace.cli.numbers import seconds
from headrace.client.client import Client
from headrace.client.errors import UnusableAnswer
from headrace.client.job import Job
from headrace.errors import HeadraceError

PREDICTED_TOGETHER = 1000
"""Rows of a request whose answer a caller waits for: it has a deadline, and many must not hold up others."""

SUBMITTED_TOGETHER = 10_000
"""Rows of a job: as many as a gateway takes as delivered (ROWS_MAX)."""


class _Accepted(NamedTuple):
    """A job, the position of its first row, and the number of its rows; None for a single row."""

    job: Job
    start: int
    n_rows: int | None


def predict_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `predict`."""
    add_options(parser)
    parser.add_argument("--deadline", type=seconds, metavar="S", help="seconds until a request is given up (gateway's)")


def predict(client: Client, options: argparse.Namespace) -> int:
    """Predict the rows of the arguments or of a file, and print the predictions in their order."""
    model, rows = _asked(client, options)
    printer = PredictionPrinter(options.json)

    def ask(portion: Row | list[Row], _: int = 0) -> dict[str, Any]:
        answer = client.predict(portion, model, options.version, options.deadline)
        return _complete(answer, None if isinstance(portion, dict) else len(portion))

    if isinstance(rows, dict):
        printer.add(ask(rows))
        return 0
    for answer in in_portions(rows, PREDICTED_TOGETHER, ask):
        printer.add(answer)
    return 0


def submit_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `submit`."""
    add_options(parser)
    parser.add_argument("--idempotency-key", metavar="K", help="the same key with the same rows returns the same job")
    parser.add_argument("--wait", action="store_true", help="wait for the result, and print it as `predict` does")
    _add_timeout(parser)


def submit(client: Client, options: argparse.Namespace) -> int:
    """Submit the rows as a job, or as several if they are too many for one, and print the ids or the predictions."""
    model, rows = _asked(client, options)
    key: str | None = options.idempotency_key
    unseen: list[_Accepted] = []

    def ask(portion: Row | list[Row], start: int = 0) -> _Accepted:
        # Each job needs a key of its own.
        job = client.submit(portion, model, options.version, f"{key}+{start}" if key and start else key)
        return _Accepted(job, start, None if isinstance(portion, dict) else len(portion))

    try:
        for accepted in [ask(rows)] if isinstance(rows, dict) else in_portions(rows, SUBMITTED_TOGETHER, ask):
            if options.wait:
                unseen.append(accepted)
            elif options.json:
                print_document({"id": accepted.job.id, "rows": accepted.n_rows or 1})
            else:
                print(accepted.job.id, flush=True)
        _print_results(unseen, options)
    except (HeadraceError, KeyboardInterrupt) as error:
        if not unseen:
            raise
        ids = [accepted.job.id for accepted in unseen]
        raise Stopped(error, f"results not printed: {', '.join(ids)}", {"jobs": ids}) from error
    return 0


def wait_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `wait`."""
    parser.add_argument("job", metavar="JOB")
    _add_timeout(parser)


def wait(client: Client, options: argparse.Namespace) -> int:
    """Wait for the result of a job, and print it as `predict` does."""
    PredictionPrinter(options.json).add(client.job(options.job).result(options.timeout))
    return 0


def _add_timeout(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--timeout", type=seconds, metavar="S", help="seconds to wait (until the job ends)")


def _asked(client: Client, options: argparse.Namespace) -> tuple[str | None, Row | list[Row]]:
    """Return the model and the rows of the arguments, checked.

    Raises:
        HeadraceError: if they can't be used, or the gateway does not describe the model.
    """
    model = model_of(options)
    check_source(options)
    return model, read_rows(options, Features.of(client, model, options.version))


def _print_results(unseen: list[_Accepted], options: argparse.Namespace) -> None:
    """Print the results of jobs in their order; a job leaves the list when its result is printed."""
    printer = PredictionPrinter(options.json)
    several = len(unseen) > 1
    ends = time.monotonic() + (options.timeout or math.inf)
    while unseen:
        job, start, n_rows = unseen[0]
        try:
            left = None if ends == math.inf else max(0.0, ends - time.monotonic())
            printer.add(_complete(job.result(left), n_rows))
        except (HeadraceError, KeyboardInterrupt) as error:
            if not several:
                raise
            raise stopped_at(error, start, n_rows or 1) from error
        del unseen[0]


def _complete(answer: dict[str, Any], n_rows: int | None) -> dict[str, Any]:
    """Return an answer to so many rows, or to a single one (None).

    Raises:
        UnusableAnswer: if it is of another form.
    """
    if ("prediction" in answer) != (n_rows is None):
        raise UnusableAnswer(200, "it is one prediction for several rows, or several for one")
    if n_rows is not None and len(rows_of(answer)) != n_rows:
        raise UnusableAnswer(200, f"it has {len(answer['predictions']):,} predictions for {n_rows:,} rows")
    return answer
