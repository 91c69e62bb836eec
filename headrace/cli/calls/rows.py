"""Rows of the command line: from arguments, or from a file of CSV, JSON or JSON Lines."""

import argparse
import csv
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from headrace.cli.calls.features import Features, Row, WrongValue
from headrace.cli.calls.outcomes import WrongArgument
from headrace.terminal import reason

FILE_BYTES_MAX = 200_000_000
"""Bytes of a file of rows, which is read as a whole before anything is sent."""

FORMATS = {".csv": "csv", ".json": "json", ".jsonl": "jsonl", ".ndjson": "jsonl"}
"""Formats by the end of a file's name."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that hold rows."""
    parser.usage = f"{parser.prog} [NAME] [FEATURE=VALUE ...] [options]"
    parser.add_argument(
        "words", nargs="*", metavar="WORD", help="NAME of a model (the default model), and the values of one row"
    )
    parser.add_argument("--version", metavar="V", help="a version or an alias of the model NAME")
    parser.add_argument("--file", metavar="FILE", help="rows in a file; - is the standard input")
    parser.add_argument("--format", choices=["csv", "json", "jsonl"], help="format of the file (by its name)")


def model_of(options: argparse.Namespace) -> str | None:
    """Return the model that the arguments name; None for the default one.

    Raises:
        WrongArgument: if they name a version without a model.
    """
    name: str | None = options.words[0] if options.words and "=" not in options.words[0] else None
    if name is None and options.version:
        raise WrongArgument("--version needs NAME: versions belong to a model")
    return name


def check_source(options: argparse.Namespace) -> None:
    """Check that the arguments hold rows or a file, before anything is asked.

    Raises:
        WrongArgument: if not.
    """
    cells = options.words if model_of(options) is None else options.words[1:]
    if bool(cells) == bool(options.file):
        wrong = "a row and --file: give one of them" if cells else "no rows: give FEATURE=VALUE ..., or --file"
        raise WrongArgument(wrong)
    if options.file and not _format_of(options):
        raise WrongArgument(f"{options.file}: its name does not say its format: add --format csv, json or jsonl")


def read_rows(options: argparse.Namespace, features: Features) -> Row | list[Row]:
    """Return the row of the arguments or of a JSON object, or the rows of any other file; all are checked.

    Raises:
        WrongArgument: if one does not fit the features, or the file can't be read.
    """
    if not options.file:
        cells = options.words if model_of(options) is None else options.words[1:]
        row = _row_of(map(features.cell, cells), features, "row 1")
        features.check(row, "row 1")
        return row
    read: dict[str, Callable[[bytes, Features], Row | Iterable[Row]]] = {"csv": _csv, "json": _json, "jsonl": _lines}
    try:
        content = read[_format_of(options)](_content(options.file), features)
        rows = content if isinstance(content, dict) else [*content]
    except UnicodeDecodeError:
        raise WrongArgument(f"{options.file} is not UTF-8") from None
    except RecursionError:
        raise WrongArgument(f"{options.file} is nested too deep") from None
    if not rows:
        raise WrongArgument(f"{options.file} has no rows")
    for number, row in enumerate([rows] if isinstance(rows, dict) else rows, 1):
        if not isinstance(row, dict):
            raise WrongArgument(f"row {number} is no object of feature names and values")
        features.check(row, f"row {number}")
    return rows


def _format_of(options: argparse.Namespace) -> str:
    return options.format or FORMATS.get(Path(options.file).suffix.lower(), "")


def _content(name: str) -> bytes:
    try:
        if name == "-":
            # Python has no stream for a closed one.
            if (stream := getattr(sys.stdin, "buffer", None)) is None:
                raise WrongArgument("there is no standard input")
            return _bounded(stream, "the standard input")
        with Path(name).open("rb") as file:
            return _bounded(file, name)
    except OSError as error:
        raise WrongArgument(reason(error)) from None


def _bounded(file: BinaryIO, name: str) -> bytes:
    content = file.read(FILE_BYTES_MAX + 1)
    if len(content) > FILE_BYTES_MAX:
        raise WrongArgument(f"{name} is larger than {FILE_BYTES_MAX:,} bytes: split it")
    return content


def _row_of(cells: Iterable[tuple[str, str | None]], features: Features, where: str) -> Row:
    """Return a row of texts as values; None is a missing value.

    Raises:
        WrongArgument: if a text stands for no value, or a name repeats.
    """
    row: Row = {}
    for name, text in cells:
        if name in row:
            raise WrongArgument(f"{where} has {name!r} twice")
        try:
            row[name] = None if text is None else features.value(name, text)
        except WrongValue as error:
            raise WrongArgument(f"{where}, column {name!r}: {error}") from None
    return row


def _csv(content: bytes, features: Features) -> Iterator[Row]:
    if not features.known:
        raise WrongArgument("CSV needs the types of the features, which this API key may not read: use JSON")
    table = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
    number = 0
    try:
        names = next(table, [])
        features.check_header(names)
        for cells in table:
            if not cells:
                continue
            number += 1
            if len(cells) != len(names):
                raise WrongArgument(f"row {number} has {len(cells)} cells, and the first line {len(names)} columns")
            yield _row_of(zip(names, (text or None for text in cells), strict=True), features, f"row {number}")
    except csv.Error as error:
        raise WrongArgument(f"row {number + 1}: the CSV can't be read: {error}") from None


def _json(content: bytes, _: Features) -> Any:
    document = _loaded(content.decode("utf-8-sig"), "")
    if isinstance(document, dict) and len(document) == 1 and isinstance(document.get("instances"), list):
        document = document["instances"]
    if not isinstance(document, dict | list):
        raise WrongArgument("the JSON is neither an object nor a list of objects")
    return document


def _lines(content: bytes, _: Features) -> Iterator[Any]:
    for number, line in enumerate(content.decode("utf-8-sig").split("\n"), 1):
        if line.strip():
            yield _loaded(line, f"line {number}: ")


def _loaded(text: str, where: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_constant, object_pairs_hook=_without_repetition)
    except ValueError as error:
        raise WrongArgument(f"{where}it is no JSON: {error}") from None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _without_repetition(members: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(members)
    if len(document) != len(members):
        raise ValueError("an object has a name twice")
    return document
