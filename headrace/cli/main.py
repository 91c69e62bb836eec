"""The command line: parses arguments, runs a command and turns errors into one line and an exit code."""

import argparse
import sys
from collections.abc import Sequence

from headrace.cli import service_commands
from headrace.cli.calls import commands as calls
from headrace.errors import HeadraceError
from headrace.extras import ExtraMissing, extras_explained
from headrace.terminal import PIPE_CLOSED, discard_output, escaped_output, one_line, reason
from headrace.version import __version__

FAILED = 1
INTERRUPTED = 130
"""Exit code for CTRL+C: 128 and the number of the signal."""

CANNOT_RUN = 2
"""Exit code for wrong arguments, a missing extra, and a command whose package is not here."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; what it prints holds no control characters, whatever the model store or Redis contains.

    Args:
        arguments: the words after `headrace`; by default those of the process.

    Returns:
        The exit code: 0 for success, 1 if the command failed, 2 if it can't run here, 130 if CTRL+C has ended it, and
        141 if nobody reads its output to the end; those of calls to a gateway are in `headrace.cli.calls.outcomes`.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    with escaped_output():
        try:
            try:
                return _run(words)
            finally:
                sys.stdout.flush()
        except OSError as error:
            discard_output()
            return PIPE_CLOSED if isinstance(error, BrokenPipeError) else _complain(error, FAILED)


def _run(words: list[str]) -> int:
    try:
        with extras_explained():
            if words and words[0] in service_commands.COMMANDS:
                return service_commands.run(words[0], words[1:])
            if words and words[0] in calls.SUMMARIES:
                return calls.run(words[0], words[1:])
            options = parser().parse_args(words)
            return int(options.run(options))
    except (ExtraMissing, service_commands.NotHere) as error:
        return _complain(error, CANNOT_RUN)
    except BrokenPipeError:
        raise
    except (HeadraceError, OSError) as error:
        return _complain(error, FAILED)
    except KeyboardInterrupt:
        return _complain(HeadraceError("interrupted"), INTERRUPTED)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the commands that look after a model store; it knows others by their names alone."""
    # Imported here because the commands of the service and of callers need no model store.
    from headrace.cli import aliases, checks, listing, mlflow, removal

    made = argparse.ArgumentParser(
        prog="headrace",
        description="Fit and export models, look after a model store, and call a gateway.",
    )
    made.add_argument("--version", action="version", version=f"headrace {__version__}")
    commands = made.add_subparsers(title="commands", metavar="COMMAND", required=True)
    # Listed for --help only: these commands have parsers of their own, which `main` leaves all arguments to.
    for name, command in service_commands.COMMANDS.items():
        commands.add_parser(name, help=command.summary, add_help=False)
    for module in (checks, listing, aliases, removal, mlflow):
        module.add_commands(commands)
    for name, summary in calls.SUMMARIES.items():
        commands.add_parser(name, help=summary, add_help=False)
    return made


def _complain(error: Exception, code: int) -> int:
    print(f"headrace: {one_line(reason(error))}", file=sys.stderr)
    return code
