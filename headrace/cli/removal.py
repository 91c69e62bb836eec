"""The commands that remove versions: `prune` and `remove`."""

import argparse

from headrace.cli.arguments import add_store_command, versions_of
from headrace.cli.numbers import count
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


def prunable(store: ModelStore, name: str, keep: int) -> list[str]:
    """Return the versions that are neither among the newest `keep` nor named by an alias, the oldest first.

    Raises:
        ModelNotFound: if there is no such model.
        ManifestInvalid: if an alias is damaged.
    """
    versions = [version for _, version in versions_of(store, name)]
    named = {version for record in store.alias_records(name).values() for version in record.versions}
    return [version for version in versions[: max(0, len(versions) - keep)] if version not in named]


def _prune(store: ModelStore, options: argparse.Namespace) -> int:
    versions = prunable(store, options.name, options.keep)
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
