"""The row of a rollout: how a second version compares with the one that serves."""

from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.common import StackingMode

from monitoring.dashboards.panels import Query, Row, lines
from monitoring.dashboards.promql import MODEL, quantile, rate, total

SHADOW_ROWS = "inference_shadow_rows_total"
PAIR = ("model", "version", "shadow")
VERSION = ("model", "version")


def rollout_row() -> Row:
    """What decides whether a version is promoted: agreement, confidence, and its share of the traffic."""
    return Row("Rollout", 8, [(8, _shares()), (8, _agreement()), (8, _confidence())])


def _shares() -> model.Panel:
    return lines(
        "Rows by version",
        "Which version answers how much: a split shows as its share, a swap as a hand-over.",
        "rowsps",
        Query(total(rate("inference_predictions_total", MODEL), *VERSION), "{{model}} {{version}}"),
        stacked=StackingMode.NORMAL,
    )


def _agreement() -> model.Panel:
    rows = total(rate(SHADOW_ROWS, MODEL), *PAIR)
    same = total(rate(SHADOW_ROWS, MODEL, 'agreement="same"'), *PAIR)
    return lines(
        "Shadow agreement",
        "Share of rows for which a version on trial says the same as the one that answers. Nothing without a shadow.",
        "percentunit",
        Query(f"{same} / {rows}", "{{model}} {{shadow}} with {{version}}"),
    )


def _confidence() -> model.Panel:
    confidence = "inference_prediction_confidence"
    return lines(
        "Confidence by version",
        "The greatest probability of a row: its median, and what nine of ten rows exceed.",
        "percentunit",
        Query(quantile(0.5, confidence, MODEL, by=VERSION), "median {{model}} {{version}}"),
        Query(quantile(0.1, confidence, MODEL, by=VERSION), "lowest tenth {{model}} {{version}}"),
    )
