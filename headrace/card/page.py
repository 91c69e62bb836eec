"""The model card: one self-contained HTML page about a version, for people."""

from collections.abc import Sequence
from html import escape
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.card.style import STYLE
from headrace.card.svg import bars, confusion, histogram, scatter, short
from headrace.data.attributes import explained
from headrace.data.predictions import PREDICTED_ROWS_MAX
from headrace.data.reference import observed_ratios
from headrace.data.table import Column, Table
from headrace.data.targets import Comparison
from headrace.models.manifest import INPUT_FORMS, MISSING_BIN, OTHER_BIN, Feature, Manifest, Output, Reference

CARD_FILE = "card.html"


PAGE_BYTES = 250_000
"""Size of a page, in characters, beyond which features and outputs are left out."""

FEATURES_NOTE = "<p>Ticks below a histogram are the cuts of the reference bins, against which drift is measured.</p>"

CLASSES_SHOWN = 20

CATEGORIES_SHOWN = 8


def card(manifest: Manifest, estimator: Any, table: Table, comparison: Comparison) -> str:
    """Return the page of a version.

    Args:
        manifest: the manifest of the version.
        estimator: the fitted estimator, for its parameters.
        table: the training rows.
        comparison: targets and predictions, empty if the targets are not known.
    """
    title = escape(f"{manifest.name} {manifest.version}")
    with explained("__repr__"):
        described = repr(estimator)
    outputs = [_output(manifest, i, comparison) for i in range(len(manifest.outputs))]
    features = [_feature(*pair) for pair in zip(manifest.features, table.columns, strict=True)]
    predictions = _as_fits(outputs, PAGE_BYTES // 2)
    sections = [
        _header(manifest),
        _section("Scores", _scores(manifest)),
        _section("Predictions", predictions),
        _section(
            f"Features ({len(features)})", FEATURES_NOTE + _grid(_as_fits(features, PAGE_BYTES - len(predictions)))
        ),
        _section("Estimator", f"<pre>{escape(described)}</pre>"),
        _section("Made with", _facts(manifest.libraries)),
    ]
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}: model card</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}</style></head>\n<body><main>{''.join(sections)}</main></body></html>\n"
    )


def _header(manifest: Manifest) -> str:
    artifact = manifest.artifact
    facts = {
        "Created": manifest.created_at.replace("T", " ").replace("+00:00", " UTC"),
        "Estimator": manifest.estimator,
        "Training rows": f"{manifest.training_rows:,}",
        "Predicts": ", ".join(_kind(output) for output in manifest.outputs[:4])
        + (", …" if len(manifest.outputs) > 4 else ""),
        "Probabilities": "yes" if manifest.probabilities else "no",
        "Takes rows as": INPUT_FORMS[manifest.input],
        "Artifact": f"{artifact.file}, {artifact.size_bytes:,} bytes, {artifact.format}",
        "SHA-256": artifact.sha256,
    }
    description = f"<p>{escape(manifest.description)}</p>" if manifest.description else ""
    return (
        f"<header><h1>{escape(manifest.name)} <small>{escape(manifest.version)}</small></h1>{description}"
        f"{_facts(facts)}</header>"
    )


def _kind(output: Output) -> str:
    name = "" if output.name == "prediction" else f"{output.name}: "
    return f"{name}{'a number' if output.classes is None else f'one of {len(output.classes)} classes'}"


def _scores(manifest: Manifest) -> str:
    if not manifest.scores:
        return "<p>None were given.</p>"
    cells = "".join(
        f"<div><b>{short(value)}</b><span>{escape(name.replace('_', ' '))}</span></div>"
        for name, value in manifest.scores.items()
    )
    flattering = any(name.startswith("training_") for name in manifest.scores)
    note = "<p>Measured on the rows that the model was fitted on, which flatters it.</p>" if flattering else ""
    return f'<div class="scores">{cells}</div>{note}'


def _output(manifest: Manifest, at: int, comparison: Comparison) -> str:
    output = manifest.outputs[at]
    heading = f"<h3>{escape(output.name)}</h3>" if len(manifest.outputs) > 1 else ""
    distribution = _distribution(output, min(manifest.training_rows, PREDICTED_ROWS_MAX))
    figures = [_figure("Predictions for the training rows", distribution)]
    if comparison.targets:
        note = "by models that had not seen the row" if comparison.held_out else "for rows that it was fitted on"
        true, predicted = comparison.targets[at], comparison.predicted[at]
        if output.classes is None:
            true, predicted = true.astype(np.float64), predicted.astype(np.float64)
            figures.append(_figure(f"Predicted {note}", scatter(true, predicted)))
            figures.append(_figure("Residuals: true minus predicted", histogram(true - predicted)))
        else:
            figures.append(_figure(f"Predicted {note}", _confusion(output.classes, true, predicted), "wide"))
    return heading + _grid("".join(figures))


def _distribution(output: Output, rows: int) -> str:
    reference = output.reference
    if output.classes is None:
        return _reference_table(reference, rows)
    shares = observed_ratios(reference.ratios, rows)
    order = np.argsort(shares)[::-1][:CLASSES_SHOWN].tolist()
    if len(reference.bins) <= CLASSES_SHOWN:
        order = list(range(len(reference.bins)))
    chart = bars([reference.bins[i] for i in order], [shares[i] for i in order])
    hidden = len(reference.bins) - len(order)
    return chart + (f"<p>and {hidden} rarer classes</p>" if hidden else "")


def _confusion(classes: Sequence[Any], true: NDArray[Any], predicted: NDArray[Any]) -> str:
    counted = sorted(classes, key=lambda each: -int(np.count_nonzero(true == each)))[:CLASSES_SHOWN]
    shown = [each for each in classes if each in counted]
    counts = np.array([[np.count_nonzero((true == row) & (predicted == column)) for column in shown] for row in shown])
    hidden = len(classes) - len(shown)
    return confusion([str(each) for each in shown], counts) + (f"<p>and {hidden} rarer classes</p>" if hidden else "")


def _as_fits(parts: Sequence[str], budget: int) -> str:
    """Join the first parts, as many as fit into `budget` characters."""
    ends = np.cumsum([len(part) for part in parts])
    fitting = max(1, int(np.searchsorted(ends, budget)))
    hidden = len(parts) - fitting
    return "".join(parts[:fitting]) + (f"<p>and {hidden} more</p>" if hidden > 0 else "")


def _grid(content: str) -> str:
    return f'<div class="grid">{content}</div>'


def _feature(feature: Feature, column: Column) -> str:
    facts = [feature.type if feature.dtype in (feature.type, "float64") else f"{feature.type} ({feature.dtype})"]
    if feature.nullable:
        facts.append(f"{float(column.missing.mean()):.1%} missing")
    if feature.type == "number":
        chart = histogram(column.present, feature.reference.edges or ())
        facts.append(f"mean {short(_mean(column.present))}")
    else:
        shown = _most_frequent(feature.reference, len(column.values))
        chart = bars([bin_ for bin_, _ in shown], [ratio for _, ratio in shown])
        if feature.type == "string" and not feature.categories:
            facts.append("texts are not shown")
    bins = _reference_table(feature.reference, len(column.values))
    table = f"<details><summary>Reference bins</summary>{bins}</details>"
    return _figure(escape(feature.name), f"<p>{escape(' · '.join(facts))}</p>{chart}{table}", escaped=True)


def _mean(values: NDArray[np.float64]) -> float:
    mean, spread = float(values.mean()), float(np.ptp(values))
    # The mean of centred values is a residue of rounding.
    return 0.0 if abs(mean) < 1e-9 * spread else mean


def _most_frequent(reference: Reference, rows: int) -> list[tuple[str, float]]:
    """Return bins with their shares of the training rows, as many as a small chart holds.

    The bins that are no category come last, if they hold a row.
    """
    pairs = list(zip(reference.bins, observed_ratios(reference.ratios, rows), strict=True))
    special = [pair for pair in pairs if pair[0] in (OTHER_BIN, MISSING_BIN)]
    return [pair for pair in pairs if pair not in special][:CATEGORIES_SHOWN] + [pair for pair in special if pair[1]]


def _reference_table(reference: Reference, rows: int) -> str:
    ranges = reference.bins
    if reference.edges is not None:
        edges = [short(edge) for edge in reference.edges]
        ranges = [
            f"up to {edges[0]}",
            *(f"{low} to {high}" for low, high in pairwise(edges)),
            f"above {edges[-1]}",
            *reference.bins[len(edges) + 1 :],
        ]
    cells = "".join(
        f"<tr><td>{escape(label)}</td><td>{ratio:.1%}</td></tr>"
        for label, ratio in zip(ranges, observed_ratios(reference.ratios, rows), strict=True)
    )
    return f"<table>{cells}</table>"


def _figure(caption: str, content: str, kind: str = "", *, escaped: bool = False) -> str:
    title = caption if escaped else escape(caption)
    return f'<figure class="{kind}"><figcaption>{title}</figcaption>{content}</figure>'


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{content}</section>"


def _facts(facts: dict[str, str]) -> str:
    items = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts.items())
    return f"<dl>{items}</dl>"
