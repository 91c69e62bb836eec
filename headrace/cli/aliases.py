"""The commands that move aliases: `promote`, `rollback`, `trial`; and `sign`, which goes before a promotion."""

import argparse
import sys
from pathlib import Path

from headrace.cli.arguments import add_store_command, add_timeout
from headrace.cli.limited import within
from headrace.cli.numbers import share
from headrace.errors import ModelError
from headrace.models.alias import LATEST, PRODUCTION, Trial, mismatch
from headrace.models.store import ModelStore


def add_commands(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `promote`, `rollback`, `trial` and `sign`."""
    command = add_store_command(subparsers, "promote", _promote, "point an alias to a version")
    command.add_argument("name", metavar="NAME")
    command.add_argument("version", metavar="VERSION", help="or another alias, for the version that it names now")
    command.add_argument("--alias", default=PRODUCTION, help="the alias that moves (%(default)s)")
    command.add_argument("--sign", type=Path, metavar="KEY", help="sign the version before, with this private key")
    add_timeout(command, "the signing")

    command = add_store_command(subparsers, "rollback", _rollback, "point an alias to the version that it named before")
    command.add_argument("name", metavar="NAME")
    command.add_argument("--alias", default=PRODUCTION, help="the alias that moves (%(default)s)")

    command = add_store_command(
        subparsers, "trial", _trial, "give a second version a share of an alias' traffic, or a copy of it"
    )
    command.add_argument("name", metavar="NAME")
    command.add_argument("version", nargs="?", metavar="VERSION", help="the version on trial; not with --end")
    command.add_argument("--alias", default=PRODUCTION, help="the alias whose traffic is shared (%(default)s)")
    kind = command.add_mutually_exclusive_group(required=True)
    kind.add_argument("--split", type=share, metavar="SHARE", help="it answers this share (0 to 1) of the requests")
    kind.add_argument("--shadow", type=share, metavar="SHARE", help="it is asked this share too, and never answers")
    kind.add_argument("--end", action="store_true", help="end all trials of the alias")

    command = add_store_command(
        subparsers, "sign", _sign, "sign a version, for workers that require it (MODEL_PUBLIC_KEY)"
    )
    command.add_argument("name", metavar="NAME")
    command.add_argument("ref", nargs="?", default=LATEST, metavar="REF", help="version or alias (%(default)s)")
    command.add_argument("--key", type=Path, required=True, help="a PEM file with the Ed25519 private key")
    add_timeout(command, "the signing")


def _promote(store: ModelStore, options: argparse.Namespace) -> int:
    before = store.aliases(options.name).get(options.alias)
    version = store.resolve(options.name, options.version)
    if options.sign:
        _sign_version(store, options.name, version, options.sign, options.timeout)
    store.set_alias(options.name, options.alias, version)
    _print_move(options, before, version)
    return 0


def _rollback(store: ModelStore, options: argparse.Namespace) -> int:
    before = store.aliases(options.name).get(options.alias)
    _print_move(options, before, store.rollback(options.name, options.alias))
    return 0


def _print_move(options: argparse.Namespace, before: str | None, version: str) -> None:
    moved = f"was {before}" if before and before != version else "was so before" if before else "is new"
    print(f"{options.alias} of {options.name} is now {version} ({moved})")


def _trial(store: ModelStore, options: argparse.Namespace) -> int:
    name, alias = options.name, options.alias
    if options.end:
        store.set_trials(name, alias, split=None, shadow=None)
        print(f"{name}: no trials of {alias} any more")
        return 0
    if options.version is None:
        print("headrace: which VERSION is on trial?", file=sys.stderr)
        return 1
    version = store.resolve(name, options.version)
    record = store.alias_records(name).get(alias)
    split, shadow = (record.split, record.shadow) if record else (None, None)
    trial = Trial(version=version, share=options.split or options.shadow)
    if options.split:
        split, does = trial, "answers"
    else:
        if record is not None:
            _check_comparable(store, name, record.version, version)
        shadow, does = trial, "is also asked"
    store.set_trials(name, alias, split=split, shadow=shadow)
    print(f"{name}: {version} {does} {trial.share:.1%} of {alias}, as soon as the workers have it loaded")
    return 0


def _check_comparable(store: ModelStore, name: str, answers: str, shadow: str) -> None:
    """Refuse a shadow that would get none of the rows.

    Raises:
        ModelError: if so.
    """
    try:
        reason = mismatch(store.manifest(name, answers), store.manifest(name, shadow))
    except ModelError:
        return  # Gateways will say which manifest they can't read.
    if reason is not None:
        raise ModelError(f"{name} {shadow} can't be a shadow: {reason}")


def _sign(store: ModelStore, options: argparse.Namespace) -> int:
    _sign_version(store, options.name, options.ref, options.key, options.timeout)
    return 0


def _sign_version(store: ModelStore, name: str, ref: str, key: Path, seconds: float) -> None:
    # Imported here because it imports OpenSSL.
    from headrace.models.signing import sign

    # The artifact is read whole, and may be a file of holes that never ends.
    version = within(seconds, f"{name} {ref}", lambda: sign(store, name, ref, key).version)
    print(f"{name} {version} is signed")
