"""The commands that look after jobs: `job`, `jobs`, `cancel`."""

import argparse
from datetime import datetime
from itertools import islice
from typing import Any

from headrace.cli.calls.output import PredictionPrinter, facts, print_document, text_of
from headrace.cli.numbers import count
from headrace.cli.table import Table, print_table
from headrace.client.client import Client
from headrace.client.errors import ResultExpired
from headrace.errors import HeadraceError

STATUSES = ("queued", "running", "succeeded", "failed", "cancelled", "expired")

HEADINGS = ("ID", "STATUS", "MODEL", "VERSION", "ACCEPTED", "ERROR")

PRINTED_TOGETHER = 100

FACTS = ("id", "status", "model", "version", "attempt", "accepted_at", "started_at", "ended_at")


def job_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `job` and of `cancel`."""
    parser.add_argument("job", metavar="JOB")


def job(client: Client, options: argparse.Namespace) -> int:
    """Print the state of a job; that it failed is no failure of this command."""
    view = _view(client, options.job)
    if options.json:
        print_document(view)
        return 0
    rows = facts(view, FACTS)
    if error := _error_of(view):
        rows.append(("error", error))
    if view.get("result_expired") is True:
        rows.append(("result", "gone: it made room for newer ones"))
    print_table(rows)
    if isinstance(view.get("result"), dict):
        PredictionPrinter(for_machines=False).add(view["result"])
    return 0


def jobs_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `jobs`."""
    parser.add_argument("--status", choices=STATUSES, help="only jobs with this status")
    parser.add_argument("--model", metavar="NAME", help="only jobs of this model")
    parser.add_argument("--since", type=_time, metavar="TIME", help="only jobs accepted since, as 2026-11-27T09:00:00Z")
    parser.add_argument("--limit", type=count, metavar="N", help="at most so many")


def jobs(client: Client, options: argparse.Namespace) -> int:
    """Print the jobs of the API key's owner as they arrive."""
    listed = islice(client.jobs(options.status, options.model, options.since), options.limit)
    if options.json:
        for view in listed:
            print_document(view)
        return 0
    table = Table()
    heading = [HEADINGS]
    while views := [*islice(listed, PRINTED_TOGETHER)]:
        table.add([*heading, *map(_row, views)])
        heading = []
    if heading:
        print("no jobs")
    return 0


def cancel(client: Client, options: argparse.Namespace) -> int:
    """Cancel a job; one that has ended stays, with its result."""
    asked = client.job(options.job)
    status = asked.status()
    # Of a job that has ended, the same request deletes the result.
    if status not in ("queued", "running", "cancelled"):
        raise HeadraceError(f"job {asked.id} is {status}: it can't be cancelled any more")
    if status != "cancelled":
        asked.delete()
    if options.json:
        print_document({"id": asked.id, "status": "cancelled"})
    else:
        print(f"job {asked.id} is cancelled")
    return 0


def _view(client: Client, job_id: str) -> dict[str, Any]:
    try:
        return client.job(job_id).view()
    except ResultExpired as error:
        view = error.members.get("job")
        if not isinstance(view, dict):
            raise
        return view


def _row(view: dict[str, Any]) -> tuple[str, ...]:
    members = (text_of(view.get(name, "")) for name in ("id", "status", "model", "version", "accepted_at"))
    return (*members, _error_of(view))


def _error_of(view: dict[str, Any]) -> str:
    error = view.get("error")
    return f"{text_of(error.get('code'))}: {text_of(error.get('message'))}" if isinstance(error, dict) else ""


def _time(text: str) -> datetime:
    """Parse a time; one without a zone is local."""
    try:
        # Python 3.10 knows no Z.
        return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone()
    except (OverflowError, ValueError):
        raise argparse.ArgumentTypeError("a time is written as 2026-11-27T09:00:00Z") from None
