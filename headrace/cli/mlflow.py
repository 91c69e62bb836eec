"""The commands `import mlflow` and `follow mlflow`, which bring models of MLflow into the store."""

import argparse
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.cli.arguments import StoreCommand, add_store_command, add_timeout
from headrace.cli.limited import within
from headrace.cli.numbers import count, seconds
from headrace.errors import HeadraceError, MlflowUnusable
from headrace.models.alias import LATEST, PRODUCTION
from headrace.models.identifiers import ALLOWED, is_identifier
from headrace.models.store import ModelStore
from headrace.terminal import one_line, reason

if TYPE_CHECKING:
    from headrace.mlflow.folders import Folder
    from headrace.mlflow.following import Follower
    from headrace.mlflow.importing import ImportRules


def add_commands(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `import mlflow` and `follow mlflow`."""
    command = _add(subparsers, "import", _import, "import a model of MLflow")
    command.add_argument("model", metavar="MODEL", help="a folder, models:/NAME/VERSION or models:/NAME@ALIAS")
    command.add_argument("--alias", default=LATEST, help="the alias that names the new version (%(default)s)")
    _add_options(command)

    command = _add(subparsers, "follow", _follow, "serve the version that an alias of MLflow names, whenever it moves")
    command.add_argument("model", metavar="MODEL", help="models:/NAME@ALIAS")
    command.add_argument("--alias", default=PRODUCTION, help="the alias of the store that moves (%(default)s)")
    command.add_argument(
        "--interval", type=seconds, default="30", metavar="SECONDS", help="seconds between two looks (%(default)s)"
    )
    command.add_argument("--once", action="store_true", help="look once, and fail if that fails: for cron")
    _add_options(command)


def _add(
    subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, run: StoreCommand, summary: str
) -> argparse.ArgumentParser:
    parser = subparsers.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
    kinds = parser.add_subparsers(title="sources", metavar="SOURCE", required=True)
    return add_store_command(kinds, "mlflow", run, summary, may_be_new=True)


def _add_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--name", help="name of the model in the store; by default that of the registered model")
    command.add_argument("--tracking-uri", metavar="URL", help="the tracking server (MLFLOW_TRACKING_URI)")
    command.add_argument("--data", type=Path, metavar="FILE", help="rows that it was fitted on: .csv or .parquet")
    command.add_argument("--target", metavar="COLUMN", help="the column of the targets in --data, which is no feature")
    command.add_argument(
        "--samples",
        choices=["example", "synthetic", "none"],
        default="example",
        help="rows that callers see: the input example, made-up ones, or none (%(default)s)",
    )
    command.add_argument(
        "--trusted",
        default=os.environ.get("SKOPS_TRUSTED_TYPES", ""),
        metavar="TYPE,...",
        help="types that a skops file may hold (SKOPS_TRUSTED_TYPES)",
    )
    command.add_argument(
        "--extra-modules",
        default=os.environ.get("TRUSTED_MODULES", ""),
        metavar="M,...",
        help="your packages that workers can import (TRUSTED_MODULES)",
    )
    command.add_argument(
        "--trust-pickle",
        action="store_true",
        help="run the code in a pickle that workers would refuse: like running a program of whoever made it",
    )
    command.add_argument("--sign", type=Path, metavar="KEY", help="sign what is imported, with this private key")
    command.add_argument(
        "--memory-budget",
        type=count,
        default=os.environ.get("WORKER_MEMORY_BUDGET_BYTES") or "2000000000",
        metavar="BYTES",
        help="bytes that a model may have, also unpacked (WORKER_MEMORY_BUDGET_BYTES, %(default)s)",
    )
    add_timeout(command, "an import")


def _import(store: ModelStore, options: argparse.Namespace) -> int:
    from headrace.mlflow.folders import folder_of, local
    from headrace.mlflow.following import described, is_there, version_name
    from headrace.mlflow.reference import Registered, parsed
    from headrace.mlflow.tracking import TrackingServer

    wanted = parsed(options.model)
    if not isinstance(wanted, Registered):
        if options.name is None:
            raise MlflowUnusable(f"which name shall the model in {wanted} have? (--name)")
        line = _imported(store, options, local(wanted), str(wanted), options.name, alias=options.alias)
    else:
        server = TrackingServer(options.tracking_uri, seconds=options.timeout)
        found, name = server.version(wanted), _name(options, wanted.name)
        if is_there(store, name, found):
            print(f"{name} {version_name(found)} is there: it was imported from {found}")
            return 0
        folder = folder_of(server, server.location(found))
        line = _imported(store, options, folder, str(found), name, version_name(found), options.alias, described(found))
    print(f"imported {line}")
    return 0


def _imported(
    store: ModelStore,
    options: argparse.Namespace,
    folder: "Folder",
    where: str,
    name: str,
    version: str | None = None,
    alias: str | None = None,
    description: str = "",
) -> str:
    """Import in a process of its own, and return name, version and alias; notices are printed."""
    # Before the fork, so that a missing library is said as elsewhere.
    from headrace.mlflow.importing import import_model, notices_of

    rules = _rules(options)

    def work() -> tuple[str, list[str]]:
        exported = import_model(
            folder, where, store, name, rules, version=version, alias=alias, description=description
        )
        return exported.version, notices_of(exported, rules)

    made, notices = within(options.timeout, where, work)
    for notice in notices:
        print(f"notice: {one_line(notice)}", file=sys.stderr)
    return f"{name} {made}" + (f" ({alias})" if alias else "")


def _rules(options: argparse.Namespace) -> "ImportRules":
    from headrace.mlflow.importing import ImportRules

    return ImportRules(
        data=options.data,
        target=options.target,
        samples=options.samples,
        trusted=[each for each in options.trusted.split(",") if each],
        extra_modules=[each for each in options.extra_modules.split(",") if each],
        trust_pickle=options.trust_pickle,
        signing_key=options.sign,
        max_bytes=options.memory_budget,
    )


def _name(options: argparse.Namespace, registered: str) -> str:
    name = str(options.name or registered)
    if not is_identifier(name):
        raise MlflowUnusable(f"{name!r} can't be the name of a model here: choose another one (--name), {ALLOWED}")
    return name


def _follow(store: ModelStore, options: argparse.Namespace) -> int:
    from headrace.mlflow.following import pause

    follower = _follower(store, options)
    if options.once:
        print(follower.follow() or f"{follower.wanted}: nothing has changed")
        return 0
    failures, before, before_signal = 0, "", signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        print(f"following {follower.wanted} every {options.interval:g} s; it is {follower.alias} of {follower.name}")
        while True:
            failures, before = _look(follower, failures, before)
            sys.stdout.flush()
            time.sleep(pause(options.interval, failures))
    except (KeyboardInterrupt, SystemExit):
        # The second one is SIGTERM, also while a version is imported.
        print("headrace: stopped", file=sys.stderr)
        return 0
    finally:
        signal.signal(signal.SIGTERM, before_signal)


def _look(follower: "Follower", failures: int, before: str) -> tuple[int, str]:
    """Look once; return the number of failures since the last success, and the last of them, which is said once."""
    try:
        change = follower.follow()
    except (HeadraceError, OSError) as error:
        text = one_line(reason(error))
        if text != before:
            print(f"headrace: {text}; going on", file=sys.stderr)
        return failures + 1, text
    if change:
        print(change)
    elif failures:
        print(f"{follower.wanted}: reachable again, and nothing has changed")
    return 0, ""


def _follower(store: ModelStore, options: argparse.Namespace) -> "Follower":
    from headrace.mlflow.folders import folder_of
    from headrace.mlflow.following import Follower, described, version_name
    from headrace.mlflow.importing import import_model  # noqa: F401 - before the first fork
    from headrace.mlflow.reference import Registered, parsed
    from headrace.mlflow.tracking import ModelVersion, TrackingServer

    wanted = parsed(options.model)
    if not isinstance(wanted, Registered) or wanted.alias is None:
        raise MlflowUnusable(f"an alias can be followed, models:/NAME@ALIAS, and {options.model} is none")
    name = _name(options, wanted.name)
    server = TrackingServer(options.tracking_uri, seconds=options.timeout)

    def take(found: ModelVersion) -> None:
        folder = folder_of(server, server.location(found))
        _imported(store, options, folder, str(found), name, version_name(found), None, described(found))

    def check(version: str) -> None:
        within(options.timeout, f"{name} {version}", lambda: _check(store, options, name, version))

    return Follower(server, wanted, store, name, options.alias, take, check)


def _check(store: ModelStore, options: argparse.Namespace, name: str, version: str) -> None:
    from headrace.exporting.verify import verify

    rules = _rules(options)
    manifest = store.manifest(name, version)
    if options.sign:
        # Imported here because it imports OpenSSL.
        from headrace.models.signing import PublicKeys, read_private_key

        # Signed while it was imported, and never here: whoever writes to the store may have exchanged it since.
        manifest = PublicKeys([read_private_key(options.sign).public_key()], "--sign").check(store, manifest)
    verify(store, manifest, rules.trusted, rules.extra_modules, max_bytes=rules.max_bytes)
