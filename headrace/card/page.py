"""The model card: one self-contained HTML page about a version, for people."""

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.card.charts import confusion, histogram, scatter
from headrace.data.attributes import explained
from headrace.data.predictions import PREDICTED_ROWS_MAX
from headrace.data.reference import observed_ratios
from headrace.data.table import Column, Table
from headrace.data.targets import Comparison
from headrace.models.manifest import MISSING_BIN, OTHER_BIN, Feature, Manifest, Output, Reference
from headrace.page.drawing import bars, short
from headrace.page.markup import (
    PAGE_BYTES,
    as_fits,
    document,
    facts,
    figure,
    grid,
    header,
    reference_table,
    scores,
    section,
)

CARD_FILE = "card.html"

FEATURES_NOTE = "<p>Ticks below a histogram are the cuts of the reference bins, against which drift is measured.</p>"

CLASSES_SHOWN = 20

CATEGORIES_SHOWN = 8


def card(manifest: Manifest, estimator: Any, table: Table, comparison: Comparison) -> str:
    """Return the page of a version.

    Args:
        manifest: the manifest of the version.
        estimator: the fitted estimator, for its parameters.
        table: the training rows, or some of them.
        comparison: targets and predictions, empty if the targets are not known.
    """
    with explained("__repr__"):
        described = repr(estimator)
    outputs = [_output(manifest, i, len(table), comparison) for i in range(len(manifest.outputs))]
    features = [_feature(*pair) for pair in zip(manifest.features, table.columns, strict=True)]
    predictions = as_fits(outputs, PAGE_BYTES // 2, len(outputs))
    sections = [
        header(manifest),
        section("Scores", scores(manifest)),
        section("Predictions", predictions),
        section(
            f"Features ({len(features)})",
            FEATURES_NOTE + grid(as_fits(features, PAGE_BYTES - len(predictions), len(features))),
        ),
        section("Estimator", f"<pre>{escape(described)}</pre>"),
        section("Made with", facts(manifest.libraries)),
    ]
    return document(manifest, sections)


def _output(manifest: Manifest, at: int, n_rows: int, comparison: Comparison) -> str:
    output = manifest.outputs[at]
    heading = f"<h3>{escape(output.name)}</h3>" if len(manifest.outputs) > 1 else ""
    distribution = _distribution(output, min(n_rows, PREDICTED_ROWS_MAX))
    whose = "the training rows" if manifest.training_rows is not None else "some of the training rows"
    figures = [figure(f"Predictions for {whose}", distribution)]
    if comparison.targets:
        note = "by models that had not seen the row" if comparison.held_out else "for rows that it was fitted on"
        true, predicted = comparison.targets[at], comparison.predicted[at]
        if output.classes is None:
            true, predicted = true.astype(np.float64), predicted.astype(np.float64)
            figures.append(figure(f"Predicted {note}", scatter(true, predicted)))
            figures.append(figure("Residuals: true minus predicted", histogram(true - predicted)))
        else:
            figures.append(figure(f"Predicted {note}", _confusion(output.classes, true, predicted), "wide"))
    return heading + grid("".join(figures))


def _distribution(output: Output, rows: int) -> str:
    reference = output.reference
    if output.classes is None:
        return reference_table(reference, observed_ratios(reference.ratios, rows))
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
    bins = reference_table(feature.reference, observed_ratios(feature.reference.ratios, len(column.values)))
    table = f"<details><summary>Reference bins</summary>{bins}</details>"
    return figure(feature.name, f"<p>{escape(' · '.join(facts))}</p>{chart}{table}")


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
