"""The row of the data: what the model sees. Quantiles and bins instead of means: features can be negative, and then
the sum of a histogram goes down as well as up, which Prometheus takes for a restart.
"""

from grafana_foundation_sdk.models import dashboard as model

from monitoring.dashboards.panels import Query, Row, bars, heat, lines
from monitoring.dashboards.promql import MODEL, agreed, increase, quantile, select, share, total

VALUES = "inference_feature_value"
FEATURE = 'feature="$feature"'
VERSION = ("model", "version", "feature")


def data_row() -> Row:
    """All features, then the chosen one in depth."""
    return Row(
        "Input features",
        8,
        [(12, _medians()), (12, _bins()), (12, _quantiles()), (12, _values())],
    )


def _medians() -> model.Panel:
    return lines(
        "Median of each feature",
        "In the feature's own unit.",
        "none",
        Query(quantile(0.5, VALUES, MODEL, by=("model", "feature")), "{{model}}: {{feature}}"),
        negative=True,
    )


def _bins() -> model.Panel:
    return bars(
        "Bins of $feature",
        "Share of the values in each bin in the period shown, beside its share in the training data: where they differ "
        "for long, the model sees data that it was not trained on.",
        "percentunit",
        "bin",
        VERSION,
        Query(share("inference_feature_bin_total", MODEL, FEATURE, within=VERSION, of="bin"), "now"),
        Query(agreed(select("inference_feature_reference_ratio", MODEL, FEATURE), *VERSION, "bin"), "training"),
    )


def _quantiles() -> model.Panel:
    levels = ((0.05, "P5"), (0.25, "P25"), (0.5, "P50"), (0.75, "P75"), (0.95, "P95"))
    return lines(
        "Quantiles of $feature",
        "In the feature's own unit.",
        "none",
        *(
            Query(quantile(level, VALUES, MODEL, FEATURE, by=("model",)), f"{name} {{{{model}}}}")
            for level, name in levels
        ),
        negative=True,
    )


def _values() -> model.Panel:
    return heat(
        "Values of $feature",
        "How many values fell into each bucket, over time. Choose one model: others may have other buckets.",
        "none",
        Query(total(increase(f"{VALUES}_bucket", MODEL, FEATURE), "le"), "{{le}}"),
    )
