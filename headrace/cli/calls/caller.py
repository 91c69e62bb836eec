"""A call from the command line: arguments in, a request through the client, an answer and an exit code out."""

import argparse
import sys
from collections.abc import Callable, Sequence

from headrace.cli.calls import connection, jobs, models, predictions
from headrace.cli.calls.commands import SUMMARIES
from headrace.cli.calls.outcomes import EXIT_CODES, complain
from headrace.client.client import Client
from headrace.errors import HeadraceError
from headrace.terminal import discard_output

Options = Callable[[argparse.ArgumentParser], None]
Command = Callable[[Client, argparse.Namespace], int]

_COMMANDS: dict[str, tuple[Options, Command]] = {
    "predict": (predictions.predict_options, predictions.predict),
    "submit": (predictions.submit_options, predictions.submit),
    "wait": (predictions.wait_options, predictions.wait),
    "cancel": (jobs.job_options, jobs.cancel),
    "job": (jobs.job_options, jobs.job),
    "jobs": (jobs.jobs_options, jobs.jobs),
    "models": (models.no_options, models.models),
    "describe": (models.version_options, models.describe),
    "health": (models.no_options, models.health),
    "client-types": (models.version_options, models.client_types),
}


def run(name: str, arguments: Sequence[str]) -> int:
    """Run a command, and return its exit code.

    Raises:
        BrokenPipeError: if nobody reads the output to its end.
    """
    add_options, command = _COMMANDS[name]
    parser = _parser(name)
    add_options(parser)
    connection.add_options(parser)
    options = parser.parse_intermixed_args(arguments)
    try:
        with connection.connect(options) as client:
            code = command(client, options)
        sys.stdout.flush()
        return code
    except (HeadraceError, KeyboardInterrupt) as error:
        return complain(error, options.json)
    except BrokenPipeError:
        raise
    except OSError as error:
        discard_output()
        return complain(error, options.json)


def _parser(name: str) -> argparse.ArgumentParser:
    summary = SUMMARIES[name]
    codes = "\n".join(f"  {code:<4} {meaning}" for code, meaning in EXIT_CODES.items())
    return argparse.ArgumentParser(
        prog=f"headrace {name}",
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=f"exit codes:\n{codes}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        # Otherwise `--key SECRET` would be `--key-file`.
        allow_abbrev=False,
    )
