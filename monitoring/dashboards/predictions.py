"""Panels of predictions: outputs, confidence, compute time and failures."""

from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.common import StackingMode

from monitoring.dashboards.layout import Row
from monitoring.dashboards.panels import Query, lines
from monitoring.dashboards.promql import (
    MODEL,
    VERSIONS,
    WINDOW,
    agreed,
    in_ranges,
    moving_rate,
    quantile,
    rate,
    select,
    total,
)
from monitoring.drift import LOW_CONFIDENCE, ROWS_MIN
from monitoring.rules.drift import CONFIDENCE, OUTPUTS


def outputs(of: tuple[str, ...], *matchers: str) -> model.Panel:
    """Return the predictions by class or bin; `of` are the labels that tell the models apart."""
    said = in_ranges(rate(OUTPUTS.counter, *matchers), OUTPUTS.infos, "model", "version", "target", "output")
    return lines(
        "Predictions by output",
        "Predicted classes, or bins of predicted numbers, over time.",
        "rowsps",
        Query(total(said, *of, "range"), " ".join(f"{{{{{label}}}}}" for label in (*of, "range"))),
        stacked=StackingMode.NORMAL,
    )


def predictions_row() -> Row:
    """Return the row of predictions by version, so that a rollout shows as a hand-over."""
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
    return lines(
        "Predictions by outcome",
        "Predicted rows, and failed rows.",
        "rowsps",
        Query(moving_rate("inference_predictions_total", MODEL, VERSIONS, by=("outcome",)), "{{outcome}}"),
    )


def _errors() -> model.Panel:
    return lines(
        "Failed rows by reason",
        "Rows without a prediction. The codes are those of the error answers.",
        "rowsps",
        Query(moving_rate("inference_errors_total", MODEL, VERSIONS, by=("code",)), "{{code}}"),
        no_value="no row failed",
    )


def _compute() -> model.Panel:
    seconds = "inference_compute_seconds"
    return lines(
        "Compute time of a batch",
        "Time inside the estimator. The rest of the latency is waiting and transport.",
        "s",
        Query(quantile(0.5, seconds, MODEL, VERSIONS, by=("version",)), "P50 {{version}}"),
        Query(quantile(0.95, seconds, MODEL, VERSIONS, by=("version",)), "P95 {{version}}"),
    )


def _confidence() -> model.Panel:
    def recorded(operation: str) -> str:
        return agreed(select(f"version:{CONFIDENCE}:{operation}{WINDOW}", MODEL, VERSIONS), "version")

    return lines(
        "Confidence over $window",
        f"Median of the highest class probability of a row, and share of the rows where it is at most "
        f"{LOW_CONFIDENCE}. Classifiers only.",
        "percentunit",
        Query(recorded("median"), "median {{version}}"),
        Query(recorded("low_ratio"), "low {{version}}"),
        no_value=f"fewer than {ROWS_MIN} rows",
    )
