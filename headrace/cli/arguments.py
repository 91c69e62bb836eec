"""Parsers and argument types that the commands have in common."""

import argparse
import os
from collections.abc import Callable, Iterator

from headrace.cli.numbers import seconds
from headrace.errors import ModelNotFound
from headrace.models.store import DEFAULT_STORE, ModelStore

StoreCommand = Callable[[ModelStore, argparse.Namespace], int]
"""A command on a model store; returns the exit code."""


def add_store_command(
    subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    command: StoreCommand,
    summary: str,
    may_be_new: bool = False,
) -> argparse.ArgumentParser:
    """Add a command with the option `--store`; `run` of the parsed arguments takes these and returns the exit code.

    The store has to exist, unless it `may_be_new`.
    """
    parser = subparsers.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
    default = os.environ.get("MODEL_STORE", DEFAULT_STORE)
    parser.add_argument("--store", default=default, help="the model store, a directory or a URL (MODEL_STORE)")

    def run(options: argparse.Namespace) -> int:
        store = ModelStore(options.store)
        if not may_be_new and not store.exists():
            raise ModelNotFound(f"there is no model store {store.root} (--store, MODEL_STORE)")
        return command(store, options)

    parser.set_defaults(run=run)
    return parser


def add_timeout(parser: argparse.ArgumentParser, work: str) -> None:
    """Add the option `--timeout`, the seconds that `work` may take; by default as many as a worker gives a load."""
    parser.add_argument(
        "--timeout",
        type=seconds,
        default=os.environ.get("MODEL_LOAD_SECONDS") or "300",
        metavar="SECONDS",
        help=f"seconds that {work} may take (MODEL_LOAD_SECONDS, %(default)s)",
    )


def versions_of(store: ModelStore, name: str | None) -> Iterator[tuple[str, str]]:
    """Yield the name and version of every version of one model, or of all models if `name` is None.

    Raises:
        ModelNotFound: if there is no such model.
    """
    for each in [name] if name else store.names():
        versions = store.versions(each)
        if not versions:
            raise ModelNotFound(f"no model {each!r} in {store.root}")
        for version in versions:
            yield each, version
