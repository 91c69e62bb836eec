"""The commands that remove versions: `prune` and `remove`."""

import argparse

from headrace.cli.arguments import add_store_command, count
from headrace.models.store import ModelStore


def add_commands(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `prune` and `remove`."""
    command = add_store_command(subparsers, "prune", _prune, "remove old versions that no alias names")
    command.add_argument("name", metavar="NAME")
    command.add_argument("--keep", type=count, required=True, metavar="N", help="how many of the newest stay")
    command.add_argument("--dry-run", action="store_true", help="only print which versions would be removed")

    command = add_store_command(subparsers, "remove", _remove, "remove a version that no alias names")
    command.add_argument("name", metavar="NAME")
    command.add_argument("version", metavar="VERSION")


def _prune(store: ModelStore, options: argparse.Namespace) -> int:
    versions = store.prunable(options.name, options.keep)
    for version in versions:
        if not options.dry_run:
            store.remove(options.name, version)
        print(f"{'would remove' if options.dry_run else 'removed'} {options.name} {version}")
    if not versions:
        print(f"nothing to remove: all versions of {options.name} are among the newest or have an alias")
    return 0


def _remove(store: ModelStore, options: argparse.Namespace) -> int:
    store.remove(options.name, options.version)
    print(f"removed {options.name} {options.version}")
    return 0
