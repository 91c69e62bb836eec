"""The commands that look after the model store: list, show, promote, sign, rollback, trial, verify, prune."""

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from headrace.errors import HeadraceError, ManifestInvalid, ModelNotFound
from headrace.models.alias import LATEST, PRODUCTION, Trial
from headrace.models.manifest import Feature, Manifest, Output
from headrace.models.store import DEFAULT_STORE, ModelStore

Command = Callable[[ModelStore, argparse.Namespace], int]

HEADINGS = ("MODEL", "VERSION", "ALIASES", "CREATED", "ROWS", "ESTIMATOR", "SCORE", "SIZE")
SHOWN = 8
"""How many categories or classes are shown."""


def add_commands(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add one parser per command; each sets `run`, which takes the parsed arguments and returns the exit code."""
    command = _add(subparsers, "list", _list, "the models, or the versions of one")
    command.add_argument("name", nargs="?", metavar="NAME", help="only this model")

    command = _add(subparsers, "show", _show, "what the manifest of a version says")
    command.add_argument("name", metavar="NAME")
    command.add_argument("ref", nargs="?", default=LATEST, metavar="REF", help="version or alias (%(default)s)")

    command = _add(subparsers, "promote", _promote, "point an alias to a version")
    command.add_argument("name", metavar="NAME")
    command.add_argument("version", metavar="VERSION", help="or another alias, for the version that it names now")
    command.add_argument("--alias", default=PRODUCTION, help="the alias that moves (%(default)s)")

    command.add_argument("--sign", type=Path, metavar="KEY", help="sign the version before, with this private key")

    command = _add(subparsers, "sign", _sign, "sign a version, for workers that ask for it (MODEL_PUBLIC_KEY)")
    command.add_argument("name", metavar="NAME")
    command.add_argument("ref", nargs="?", default=LATEST, metavar="REF", help="version or alias (%(default)s)")
    command.add_argument("--key", type=Path, required=True, help="a PEM file with the Ed25519 private key")

    command = _add(subparsers, "rollback", _rollback, "point an alias to the version that it named before")
    command.add_argument("name", metavar="NAME")
    command.add_argument("--alias", default=PRODUCTION, help="the alias that moves (%(default)s)")

    command = _add(subparsers, "trial", _trial, "give a second version a share of an alias' traffic, or a copy of it")
    command.add_argument("name", metavar="NAME")
    command.add_argument("version", nargs="?", metavar="VERSION", help="the version on trial; not with --end")
    command.add_argument("--alias", default=PRODUCTION, help="whose traffic (%(default)s)")
    kind = command.add_mutually_exclusive_group(required=True)
    kind.add_argument("--split", type=_share, metavar="SHARE", help="it answers this share (0 to 1) of the requests")
    kind.add_argument("--shadow", type=_share, metavar="SHARE", help="it is asked this share too, and never answers")
    kind.add_argument("--end", action="store_true", help="end all trials of the alias")

    command = _add(subparsers, "verify", _verify, "check digests, load the models and predict their samples")
    command.add_argument("name", nargs="?", metavar="NAME", help="only this model")
    command.add_argument("ref", nargs="?", metavar="REF", help="only this version or alias")
    command.add_argument(
        "--trusted",
        default=os.environ.get("SKOPS_TRUSTED_TYPES", ""),
        metavar="TYPE,...",
        help="types that skops artifacts may hold (SKOPS_TRUSTED_TYPES)",
    )

    command = _add(subparsers, "prune", _prune, "remove old versions that no alias names")
    command.add_argument("name", metavar="NAME")
    command.add_argument("--keep", type=_count, required=True, metavar="N", help="how many of the newest stay")
    command.add_argument("--dry-run", action="store_true", help="only say what would be removed")


def _add(
    subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, command: Command, text: str
) -> argparse.ArgumentParser:
    parser = subparsers.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    parser.add_argument("--store", help="the model store, a directory or a URL (MODEL_STORE)")

    def run(options: argparse.Namespace) -> int:
        try:
            return command(ModelStore(options.store or os.environ.get("MODEL_STORE", DEFAULT_STORE)), options)
        except HeadraceError as error:
            return _complain(error)

    parser.set_defaults(run=run)
    return parser


def _complain(error: HeadraceError) -> int:
    print(f"headrace: {error}", file=sys.stderr)
    return 1


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def _share(text: str) -> float:
    number = float(text)
    if not 0 < number <= 1:
        raise argparse.ArgumentTypeError("above 0, and at most 1")
    return number


def _versions(store: ModelStore, name: str | None) -> Iterator[tuple[str, str]]:
    """(name, version) of one model or of all.

    Raises:
        ModelNotFound: if there is no such model.
    """
    for each in [name] if name else store.names():
        versions = store.versions(each)
        if not versions:
            raise ModelNotFound(f"no model {each!r} in {store.root}")
        for version in versions:
            yield each, version


def _list(store: ModelStore, options: argparse.Namespace) -> int:
    rows = [_row(store, name, version) for name, version in _versions(store, options.name)]
    if not rows:
        print(f"no models in {store.root}")
        return 0
    _print_table([HEADINGS, *rows])
    return 0


def _row(store: ModelStore, name: str, version: str) -> tuple[str, ...]:
    aliases = _aliases_of(store, name, version)
    try:
        manifest = store.manifest(name, version)
    except ManifestInvalid:
        return (name, version, aliases, "damaged", "", "", "", "")
    scores = [f"{score} {value:.4g}" for score, value in manifest.scores.items()]
    return (
        name,
        version,
        aliases,
        manifest.created_at,
        str(manifest.training_rows),
        manifest.estimator.rpartition(".")[2],
        next(iter(scores), ""),
        _size(manifest.artifact.size_bytes),
    )


def _aliases_of(store: ModelStore, name: str, version: str) -> str:
    try:
        return ", ".join(alias for alias, named in store.aliases(name).items() if named == version)
    except ManifestInvalid:
        return "damaged"


def _show(store: ModelStore, options: argparse.Namespace) -> int:
    manifest = store.manifest(options.name, options.ref)
    version = manifest.version
    aliases = _aliases_of(store, options.name, version)
    print(f"{manifest.name} {version}" + (f" ({aliases})" if aliases else ""))
    if manifest.description:
        print(manifest.description)
    artifact = manifest.artifact
    several = "a data frame" if manifest.input == "frame" else "an array"
    facts = [
        ("location", store.location(manifest.name, version)),
        ("created", manifest.created_at),
        ("estimator", manifest.estimator),
        ("artifact", f"{artifact.file} ({artifact.format}), {_size(artifact.size_bytes)}, SHA-256 {artifact.sha256}"),
        ("libraries", ", ".join(f"{library} {number}" for library, number in manifest.libraries.items())),
        ("rows", f"{manifest.training_rows} in training; as {several}; {len(manifest.samples)} samples"),
        *((score, f"{value:.6g}") for score, value in manifest.scores.items()),
        *((output.name, _meaning(output, manifest)) for output in manifest.outputs),
    ]
    _print_table([(f"  {label}", value) for label, value in facts])
    print("features")
    _print_table([(f"  {feature.name}", feature.type, _values(feature)) for feature in manifest.features])
    return 0


def _meaning(output: Output, manifest: Manifest) -> str:
    if output.classes is None:
        return "a number"
    return f"one of {_some(output.classes)}" + (", with probabilities" if manifest.probabilities else "")


def _values(feature: Feature) -> str:
    if feature.minimum is not None and feature.maximum is not None:
        text = f"{feature.minimum:g} to {feature.maximum:g}"
    else:
        text = _some(feature.categories) if feature.categories else ""
    return f"{text}, or null".removeprefix(", ") if feature.nullable else text


def _some(values: list[str] | list[str | int | bool]) -> str:
    return ", ".join(map(str, values[:SHOWN])) + (", …" if len(values) > SHOWN else "")


def _promote(store: ModelStore, options: argparse.Namespace) -> int:
    before = store.aliases(options.name).get(options.alias)
    version = store.resolve(options.name, options.version)
    if options.sign:
        _sign_version(store, options.name, version, options.sign)
    store.set_alias(options.name, options.alias, version)
    _say_move(options, before, version)
    return 0


def _sign(store: ModelStore, options: argparse.Namespace) -> int:
    _sign_version(store, options.name, options.ref, options.key)
    return 0


def _sign_version(store: ModelStore, name: str, ref: str, key: Path) -> None:
    # Only here: it imports OpenSSL.
    from headrace.models.signing import sign

    manifest = sign(store, name, ref, key)
    print(f"{name} {manifest.version} is signed")


def _rollback(store: ModelStore, options: argparse.Namespace) -> int:
    before = store.aliases(options.name).get(options.alias)
    _say_move(options, before, store.rollback(options.name, options.alias))
    return 0


def _say_move(options: argparse.Namespace, before: str | None, version: str) -> None:
    moved = f"was {before}" if before and before != version else "was so before" if before else "is new"
    print(f"{options.alias} of {options.name} is now {version} ({moved})")


def _verify(store: ModelStore, options: argparse.Namespace) -> int:
    # Only here: it imports scikit-learn, and takes seconds.
    from headrace.exporting.verify import verify

    if options.ref:
        chosen = [(options.name, store.resolve(options.name, options.ref))]
    else:
        chosen = list(_versions(store, options.name))
    worst = 0
    for name, version in chosen:
        try:
            manifest = store.manifest(name, version)
            verify(store, manifest, options.trusted.split(",") if options.trusted else ())
        except HeadraceError as error:
            worst = _complain(error)
        else:
            print(f"{name} {version} is intact and predicts its {len(manifest.samples)} samples")
    return worst


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
    if options.split:
        split, said = Trial(version=version, share=options.split), "answers"
        share = options.split
    else:
        shadow, said = Trial(version=version, share=options.shadow), "is also asked"
        share = options.shadow
    store.set_trials(name, alias, split=split, shadow=shadow)
    print(f"{name}: {version} {said} {share:.1%} of {alias}, as soon as the workers have it loaded")
    return 0


def _prune(store: ModelStore, options: argparse.Namespace) -> int:
    versions = store.prunable(options.name, options.keep)
    for version in versions:
        if not options.dry_run:
            store.remove(options.name, version)
        print(f"{'would remove' if options.dry_run else 'removed'} {options.name} {version}")
    if not versions:
        print(f"nothing to remove: all versions of {options.name} are among the newest or have an alias")
    return 0


def _print_table(rows: list[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


def _size(number: float) -> str:
    """Bytes for people, in decimal units."""
    for unit in ("B", "kB", "MB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} GB"
