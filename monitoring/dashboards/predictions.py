"""Predictions: what models say, how sure they are, how long it takes, and what fails."""

from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.common import StackingMode

from monitoring.dashboards.layout import Row
from monitoring.dashboards.panels import Query, lines
from monitoring.dashboards.promql import MODEL, VERSIONS, WINDOW, agreed, quantile, rate, select, total
from monitoring.drift import LOW_CONFIDENCE, ROWS_MIN
from monitoring.rules.drift import CONFIDENCE


def outputs(of: tuple[str, ...], *matchers: str) -> model.Panel:
    """What they say, `of` being the labels that tell them apart."""
    said = rate("inference_output_total", *matchers)
    return lines(
        "Predictions by output",
        "What the model says, over time: classes, or bins of its numbers.",
        "rowsps",
        Query(total(said, *of, "output"), f"{' '.join(f'{{{{{label}}}}}' for label in of)}: {{{{output}}}}"),
        stacked=StackingMode.NORMAL,
    )


def predictions_row() -> Row:
    """By version, so that a rollout shows as a hand-over."""
    return Row(
        "Predictions",
        8,
        [
            (8, _rows()),
            (8, _errors()),
            (8, _compute()),
            (12, outputs(("version",), MODEL, VERSIONS)),
            (12, _confidence()),
        ],
    )


def _rows() -> model.Panel:
    rows = rate("inference_predictions_total", MODEL, VERSIONS)
    return lines(
        "Predictions by outcome",
        "Rows predicted, and rows that failed.",
        "rowsps",
        Query(total(rows, "version", "outcome"), "{{version}} {{outcome}}"),
    )


def _errors() -> model.Panel:
    rows = rate("inference_errors_total", MODEL, VERSIONS)
    return lines(
        "Failed rows by reason",
        "Rows without a prediction. The codes are those of the error answers.",
        "rowsps",
        Query(total(rows, "version", "code"), "{{version}} {{code}}"),
    )


def _compute() -> model.Panel:
    seconds = "inference_compute_seconds"
    return lines(
        "Compute time of a batch",
        "Time inside the estimator. Latency that is not in here is waiting or transport.",
        "s",
        Query(quantile(0.5, seconds, MODEL, VERSIONS, by=("version",)), "P50 {{version}}"),
        Query(quantile(0.95, seconds, MODEL, VERSIONS, by=("version",)), "P95 {{version}}"),
    )


def _confidence() -> model.Panel:
    def recorded(operation: str) -> str:
        return agreed(select(f"version:{CONFIDENCE}:{operation}{WINDOW}", MODEL, VERSIONS), "version")

    return lines(
        "Confidence over $window",
        f"Median of the greatest probability of a row, and share of the rows where it is at most {LOW_CONFIDENCE}. "
        "Classifiers only.",
        "percentunit",
        Query(recorded("median"), "median {{version}}"),
        Query(recorded("low_ratio"), "low {{version}}"),
        no_value=f"fewer than {ROWS_MIN} rows",
    )
