"""The commands `list` and `show`."""

import argparse
from collections.abc import Sequence

from headrace.cli.arguments import add_store_command, versions_of
from headrace.cli.table import print_table
from headrace.errors import FileUnusable, ManifestInvalid, ModelNotFound
from headrace.models.alias import LATEST
from headrace.models.fields import INPUT_FORMS, class_key
from headrace.models.manifest import Feature, Manifest, Output
from headrace.models.store import ModelStore
from headrace.terminal import one_line

HEADINGS = ("MODEL", "VERSION", "ALIASES", "CREATED", "ROWS", "ESTIMATOR", "SCORE", "SIZE")
VALUES_SHOWN = 8
"""Largest number of categories or classes that are printed."""


def add_commands(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `list` and `show`."""
    command = add_store_command(subparsers, "list", _list, "list the models, or the versions of one")
    command.add_argument("name", nargs="?", metavar="NAME", help="only this model")

    command = add_store_command(subparsers, "show", _show, "print the manifest of a version")
    command.add_argument("name", metavar="NAME")
    command.add_argument("ref", nargs="?", default=LATEST, metavar="REF", help="version or alias (%(default)s)")


def _list(store: ModelStore, options: argparse.Namespace) -> int:
    rows = [_row(store, name, version) for name, version in versions_of(store, options.name)]
    if not rows:
        print(f"no models in {store.root}")
        return 0
    print_table([HEADINGS, *rows])
    return 0


def _row(store: ModelStore, name: str, version: str) -> tuple[str, ...]:
    aliases = _aliases_of(store, name, version)
    try:
        manifest = store.manifest(name, version)
    except (ManifestInvalid, FileUnusable, ModelNotFound):
        return (name, version, aliases, "damaged", "", "", "", "")
    scores = [f"{score} {value:.4g}" for score, value in manifest.scores.items()]
    return (
        name,
        version,
        aliases,
        manifest.created_at,
        "" if manifest.training_rows is None else str(manifest.training_rows),
        manifest.estimator.rpartition(".")[2],
        next(iter(scores), ""),
        _size(manifest.artifact.size_bytes),
    )


def _aliases_of(store: ModelStore, name: str, version: str) -> str:
    try:
        return ", ".join(alias for alias, named in store.aliases(name).items() if named == version)
    except (ManifestInvalid, FileUnusable):
        return "damaged"


def _show(store: ModelStore, options: argparse.Namespace) -> int:
    manifest = store.manifest(options.name, options.ref)
    version = manifest.version
    aliases = _aliases_of(store, options.name, version)
    print(f"{manifest.name} {version}" + (f" ({aliases})" if aliases else ""))
    if manifest.description:
        print(one_line(manifest.description))
    artifact = manifest.artifact
    training = "unknown number" if manifest.training_rows is None else manifest.training_rows
    facts = [
        ("location", store.location(manifest.name, version)),
        ("created", manifest.created_at),
        ("estimator", manifest.estimator),
        ("artifact", f"{artifact.file} ({artifact.format}), {_size(artifact.size_bytes)}, SHA-256 {artifact.sha256}"),
        ("libraries", ", ".join(f"{library} {number}" for library, number in manifest.libraries.items())),
        (
            "rows",
            f"{training} in training; as {INPUT_FORMS[manifest.input]}; {len(manifest.samples)} samples",
        ),
        *((score, f"{value:.6g}") for score, value in manifest.scores.items()),
        *((output.name, _meaning(output, manifest)) for output in manifest.outputs),
    ]
    print_table([(f"  {label}", value) for label, value in facts])
    print("features")
    print_table([(f"  {feature.name}", feature.type, _values(feature)) for feature in manifest.features])
    return 0


def _meaning(output: Output, manifest: Manifest) -> str:
    if output.classes is None:
        return "a number"
    return f"one of {_first_of(output.classes)}" + (", with probabilities" if manifest.probabilities else "")


def _values(feature: Feature) -> str:
    if feature.minimum is not None and feature.maximum is not None:
        text = f"{feature.minimum:g} to {feature.maximum:g}"
    else:
        text = _first_of(feature.categories) if feature.categories else ""
    return f"{text}, or null".removeprefix(", ") if feature.nullable else text


def _first_of(values: Sequence[str | int | bool]) -> str:
    return ", ".join(map(class_key, values[:VALUES_SHOWN])) + (", …" if len(values) > VALUES_SHOWN else "")


def _size(number: float) -> str:
    """Return a number of bytes in decimal units."""
    for unit in ("B", "kB", "MB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} GB"
