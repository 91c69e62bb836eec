"""One feature in depth, and each version's distributions beside those of training.

Quantiles and bins instead of means: features can be negative, and then the sum of a histogram goes down as well as up,
which Prometheus takes for a restart. Versions have bins and buckets of their own, so nothing is summed over versions.
"""

from grafana_foundation_sdk.models import dashboard as model

from monitoring.dashboards.drift import PSI_STEPS, RULE, TOO_FEW, details
from monitoring.dashboards.layout import Row
from monitoring.dashboards.panels import Query, bars, heat, lines
from monitoring.dashboards.promql import (
    FEATURE,
    MODEL,
    VERSIONS,
    WINDOW,
    agreed,
    in_ranges,
    increase,
    quantile,
    select,
    share,
    total,
)
from monitoring.rules.distribution import Distribution
from monitoring.rules.drift import CONFIDENCE, FEATURES, OUTPUTS

VALUES = "inference_feature_value"


def feature_row() -> Row:
    """Return the row of the chosen feature over time, and of drift elsewhere."""
    return Row(
        "Feature $feature over time", 8, [(12, _quantiles()), (12, _distance()), *((12, each) for each in details())]
    )


def version_row() -> Row:
    """Return the row that is repeated for each version."""
    return Row(
        "Version $version",
        8,
        [(12, _bins()), (12, _outputs()), (12, _values()), (12, _confidence())],
        repeat="version",
    )


def _quantiles() -> model.Panel:
    levels = ((0.05, "P5"), (0.25, "P25"), (0.5, "P50"), (0.75, "P75"), (0.95, "P95"))
    return lines(
        "Quantiles of $feature",
        "In the feature's own unit. Numeric features only.",
        "none",
        *(
            Query(quantile(level, VALUES, MODEL, VERSIONS, FEATURE, by=("version",)), f"{{{{version}}}} {name}")
            for level, name in levels
        ),
        negative=True,
    )


def _distance() -> model.Panel:
    def of_feature(operation: str) -> str:
        return agreed(select(FEATURES.recorded(f"{operation}{WINDOW}"), MODEL, VERSIONS, FEATURE), "version")

    return lines(
        "PSI of $feature",
        f"Distance from the training data over the window, and the noise floor for that number of rows. {RULE}",
        "none",
        Query(of_feature("psi"), "{{version}} PSI"),
        Query(of_feature("psi_noise"), "{{version}} noise floor"),
        limits=PSI_STEPS[1:],
        no_value=TOO_FEW,
    )


def _outputs() -> model.Panel:
    return _against_training(
        "Prediction distribution", "Predicted classes, or bins of predicted numbers.", OUTPUTS, MODEL, VERSIONS
    )


def _bins() -> model.Panel:
    return _against_training(
        "Bins of $feature", "Values of the feature, in the bins of training.", FEATURES, MODEL, VERSIONS, FEATURE
    )


def _against_training(title: str, of: str, distribution: Distribution, *matchers: str) -> model.Panel:
    within, bin_ = ("model", "version", distribution.level), distribution.bin_label
    live = select(distribution.recorded_bins(f"increase{WINDOW}"), *matchers)
    training = select(distribution.recorded_bins("reference_ratio"), *matchers)

    def ranged(shares: str) -> str:
        return in_ranges(shares, distribution.infos, *within, bin_)

    return bars(
        title,
        f"{of} Shares of the rows in the window, beside those of the training data: where they differ for long, the "
        "model gets other data than it was trained on.",
        "percentunit",
        "range",
        bin_,
        within,
        Query(ranged(f"({share(live, within, bin_)})"), "live"),
        Query(ranged(agreed(training, *within, bin_)), "training"),
    )


def _confidence() -> model.Panel:
    return heat(
        "Confidence",
        "Highest class probability of each row, over time. Classifiers only.",
        "percentunit",
        Query(total(increase(f"{CONFIDENCE}_bucket", MODEL, VERSIONS), "le"), "{{le}}"),
    )


def _values() -> model.Panel:
    return heat(
        "Values of $feature",
        "Number of values in each bucket, over time, in the feature's own unit. Numeric features only.",
        "none",
        Query(total(increase(f"{VALUES}_bucket", MODEL, VERSIONS, FEATURE), "le"), "{{le}}"),
    )
