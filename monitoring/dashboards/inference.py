"""The row of the model: what it computes, how fast, and what it says."""

from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.common import StackingMode

from monitoring.dashboards.panels import Query, Row, bars, lines, listing
from monitoring.dashboards.promql import MODEL, agreed, quantile, rate, select, share, total

OUTPUTS = "inference_output_total"
VERSION = ("model", "version")
TARGET = (*VERSION, "target")


def inference_row() -> Row:
    """By model and version, so that a rollout shows as a hand-over."""
    return Row(
        "Model",
        8,
        [(8, _rows()), (8, _compute()), (8, _errors()), (8, _outputs()), (8, _distribution()), (8, _loaded())],
    )


def _rows() -> model.Panel:
    return lines(
        "Predictions",
        "Rows predicted, and rows that failed.",
        "rowsps",
        Query(
            total(rate("inference_predictions_total", MODEL), *VERSION, "outcome"), "{{model}} {{version}} {{outcome}}"
        ),
    )


def _compute() -> model.Panel:
    seconds = "inference_compute_seconds"
    return lines(
        "Compute time of a batch",
        "Time inside the estimator. Latency that is not in here is waiting or transport.",
        "s",
        Query(quantile(0.5, seconds, MODEL, by=VERSION), "P50 {{model}} {{version}}"),
        Query(quantile(0.95, seconds, MODEL, by=VERSION), "P95 {{model}} {{version}}"),
    )


def _errors() -> model.Panel:
    return lines(
        "Failed rows by reason",
        "Rows without a prediction. The codes are those of the error answers.",
        "rowsps",
        Query(total(rate("inference_errors_total", MODEL), "model", "code"), "{{model}} {{code}}"),
    )


def _outputs() -> model.Panel:
    return lines(
        "Predictions by output",
        "What the model says, over time: classes, or bins of its numbers.",
        "rowsps",
        Query(total(rate(OUTPUTS, MODEL), *VERSION, "output"), "{{model}} {{version}}: {{output}}"),
        stacked=StackingMode.NORMAL,
    )


def _distribution() -> model.Panel:
    return bars(
        "Prediction distribution",
        "Share of each output in the period shown, beside its share in the training data.",
        "percentunit",
        "output",
        TARGET,
        Query(share(OUTPUTS, MODEL, within=TARGET, of="output"), "now"),
        Query(agreed(select("inference_output_reference_ratio", MODEL), *TARGET, "output"), "training"),
    )


def _loaded() -> model.Panel:
    loaded = agreed(select("inference_model_loaded_timestamp_seconds", MODEL), *VERSION)
    return listing(
        "Loaded models",
        "What the workers have in memory, from which file (start of its SHA-256), and since when.",
        "short",
        Query(
            f"count by (model, version, estimator, scikit_learn, digest) ({select('inference_model_info', MODEL)})",
            "workers",
        ),
        Query(f"{loaded} * 1000", "loaded"),
        units={"loaded": "dateTimeAsIso"},
    )
