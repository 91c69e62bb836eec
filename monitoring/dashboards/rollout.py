"""Panels of a rollout: a second version compared with the one that serves."""

from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.common import StackingMode

from monitoring.dashboards.layout import Row
from monitoring.dashboards.panels import Query, lines
from monitoring.dashboards.promql import MODEL, VERSIONS, quantile, rate, total

SHADOW_ROWS = "inference_shadow_rows_total"
PAIR = ("version", "shadow")


def rollout_row() -> Row:
    """Return the row that decides about a promotion: share of the traffic, agreement and confidence."""
    return Row("Rollout", 8, [(8, _shares()), (8, _agreement()), (8, _confidence())], collapsed=True)


def _shares() -> model.Panel:
    rows = rate("inference_predictions_total", MODEL, VERSIONS)
    return lines(
        "Share of each version",
        "Share of the rows that each version answers: a split trial shows as its share, a promotion as a hand-over.",
        "rowsps",
        Query(total(rows, "version"), "{{version}}"),
        stacked=StackingMode.PERCENT,
    )


def _agreement() -> model.Panel:
    rows = total(rate(SHADOW_ROWS, MODEL), *PAIR)
    same = total(rate(SHADOW_ROWS, MODEL, 'agreement="same"'), *PAIR)
    return lines(
        "Shadow agreement",
        "Share of the rows for which a shadow version predicts the same as the version that answers.",
        "percentunit",
        Query(f"{same} / {rows}", "{{shadow}} with {{version}}"),
        no_value="no shadow",
    )


def _confidence() -> model.Panel:
    confidence = "inference_prediction_confidence"
    return lines(
        "Confidence by version",
        "Highest class probability of a row: its median, and the value that nine of ten rows exceed. Classifiers only.",
        "percentunit",
        Query(quantile(0.5, confidence, MODEL, VERSIONS, by=("version",)), "median {{version}}"),
        Query(quantile(0.1, confidence, MODEL, VERSIONS, by=("version",)), "lowest tenth {{version}}"),
    )
