"""Answers of a gateway as texts: tables for people, lines of JSON for machines."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from headrace.cli.table import Table, print_table
from headrace.client.errors import UnusableAnswer
from headrace.terminal import one_line

PROBABILITIES_SHOWN = 8
"""Classes whose probabilities are printed for people at most, the most probable ones."""


def as_json(value: Any) -> str:
    """Return JSON on one line, of characters that can be printed and are ASCII.

    Raises:
        UnusableAnswer: if it is nested too deep.
    """
    try:
        # A terminal obeys the last of the ASCII characters too, which JSON may have as it is.
        return json.dumps(value, separators=(",", ":")).replace("\x7f", "\\u007f")
    except RecursionError:
        raise UnusableAnswer(200, "it is nested too deep") from None


def text_of(value: Any) -> str:
    """Return a value for people: a text as it is, anything else as JSON."""
    return value if isinstance(value, str) else as_json(value)


def print_document(document: Any) -> None:
    """Print JSON on one line."""
    print(as_json(document))


def facts(document: dict[str, Any], labels: Iterable[str]) -> list[tuple[str, str]]:
    """Return the rows of a table with those members of a document that it has."""
    return [(label, _fact(document[label])) for label in labels if document.get(label) not in (None, [], {})]


def _fact(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {text_of(each)}" for name, each in value.items())
    return ", ".join(map(text_of, value)) if isinstance(value, list) else text_of(value)


class PredictionPrinter:
    """The printer of the predictions of one call, whose answers may be several."""

    def __init__(self, for_machines: bool) -> None:
        self._for_machines = for_machines
        self._table = Table()
        self._columns: Sequence[str] | None = None
        """Names of outputs; empty for a model with one, None before the first row."""
        self._has_probabilities = False

    def add(self, answer: dict[str, Any]) -> None:
        """Print an answer to one row or to several, in their order."""
        rows = rows_of(answer)
        if self._for_machines:
            for row in rows:
                print_document(row)
        elif "prediction" in answer:
            _print_single(answer)
        elif rows:
            self._print_many(rows)

    def _print_many(self, rows: list[dict[str, Any]]) -> None:
        lines = []
        if self._columns is None:
            first = rows[0]["prediction"]
            self._columns = [*first] if isinstance(first, dict) else []
            self._has_probabilities = not self._columns and isinstance(rows[0].get("probabilities"), dict)
            lines.append((*(self._columns or ["PREDICTION"]), *(["PROBABILITY"] if self._has_probabilities else [])))
        for row in rows:
            cells = _cells(row["prediction"], self._columns)
            lines.append((*cells, *([_probability(row)] if self._has_probabilities else [])))
        self._table.add(lines)


def rows_of(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """Return an answer row by row.

    Raises:
        UnusableAnswer: if it has not one object of probabilities for each prediction.
    """
    if "prediction" in answer:
        return [answer]
    predictions = answer["predictions"]
    common: dict[str, Any] = {name: answer[name] for name in ("model", "version") if name in answer}
    probabilities = answer.get("probabilities")
    if probabilities is None:
        return [{"prediction": each, **common} for each in predictions]
    if len(probabilities) != len(predictions):
        raise UnusableAnswer(200, f"it has {len(probabilities)} probabilities for {len(predictions)} predictions")
    pairs = zip(predictions, probabilities, strict=True)
    return [{"prediction": each, "probabilities": shares, **common} for each, shares in pairs]


def _print_single(answer: dict[str, Any]) -> None:
    prediction, probabilities = answer["prediction"], answer.get("probabilities")
    if isinstance(prediction, dict):
        print_table((name, text_of(value)) for name, value in prediction.items())
    else:
        print(one_line(text_of(prediction)))
        if isinstance(probabilities, dict) and probabilities:
            shares = sorted(probabilities.items(), key=lambda item: _as_number(item[1]), reverse=True)
            rows = [(f"  {name}", _short(share)) for name, share in shares[:PROBABILITIES_SHOWN]]
            print_table([*rows, *([("  …", "")] if len(shares) > PROBABILITIES_SHOWN else [])])
    if answer.get("model") is not None:
        timing = answer.get("timing") or {}
        took = f", {timing['total_ms']:.3g} ms" if "total_ms" in timing else ""
        print(one_line(f"{text_of(answer['model'])} {text_of(answer.get('version', ''))}{took}"))


def _cells(prediction: Any, columns: Sequence[str]) -> list[str]:
    if columns and isinstance(prediction, dict):
        return [text_of(prediction.get(name)) for name in columns]
    return [text_of(prediction), *[""] * (len(columns) - 1)]


def _probability(row: dict[str, Any]) -> str:
    """Return the probability of the predicted class."""
    shares = row.get("probabilities")
    return _short(shares.get(text_of(row["prediction"]), "")) if isinstance(shares, dict) else ""


def _short(share: Any) -> str:
    return f"{share:.4g}" if isinstance(share, int | float) else text_of(share)


def _as_number(share: Any) -> float:
    return float(share) if isinstance(share, int | float) else 0.0
