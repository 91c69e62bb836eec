"""Panels of drift: the distance of inputs and outputs from the training data, from the recording rules."""

from grafana_foundation_sdk.models import dashboard as model

from monitoring.dashboards import links
from monitoring.dashboards.colours import GREEN, RED, YELLOW
from monitoring.dashboards.layout import Row
from monitoring.dashboards.links import leading_to
from monitoring.dashboards.panels import Column, Query, lines, listing, number
from monitoring.dashboards.predictions import outputs
from monitoring.dashboards.promql import (
    MODEL,
    MODELS,
    VERSIONS,
    WINDOW,
    agreed,
    fraction,
    moving,
    named,
    quantile,
    rate,
    select,
    shown_maximum,
    total,
)
from monitoring.drift import LOW_CONFIDENCE, MISSING_EXCESS_MAX, OUT_OF_RANGE_EXCESS_MAX, PSI_MAX, ROWS_MIN
from monitoring.rules.drift import CONFIDENCE, FEATURES, OUTPUTS, WINDOWS

FEATURE = ("model", "version", "feature")
TARGET = ("model", "version", "target")
VERSION = ("model", "version")

ALERT_WINDOW = WINDOWS[1].length

PSI_STEPS = ((0, GREEN), (0.1, YELLOW), (PSI_MAX, RED))
"""The rule of thumb: below 0.1 no change, above 0.25 a shift."""

TOO_FEW = f"fewer than {ROWS_MIN} rows"
RULE = f"Below 0.1 nothing has changed; above {PSI_MAX}, and above the noise floor, the data has shifted."


def summary_row() -> Row:
    """Return the row of the overview with all models."""
    panels = [outputs(VERSION, MODELS), _worst(), _medians()]
    return Row("Models and data", 8, [(8, leading_to(links.MODEL, panel)) for panel in panels])


def now_row() -> Row:
    """Return the numbers of the present moment, for each version of a model."""
    panels = [_rate(), _failed(), _unsure(), _rows(), _feature_psi(), _output_psi()]
    return Row("Now", 4, [(4, panel) for panel in panels])


def drift_row() -> Row:
    """Return the row with all features."""
    return Row("Drift over the last $window", 9, [(14, _table()), (10, _psi())])


def details() -> list[model.Panel]:
    """Return the panels of predictions and of values unknown to training."""
    return [_output(), _excess()]


def _of_features(operation: str) -> str:
    """Return a recorded series of every feature of the chosen versions over the chosen window."""
    return agreed(select(FEATURES.recorded(f"{operation}{WINDOW}"), MODEL, VERSIONS), *FEATURE)


def _share_of_features(operation: str) -> str:
    """Return a recorded share, or 0 for features that have none: values that are never missing or always known."""
    return f"{_of_features(operation)} or {_of_features('psi')} * 0"


def _excess_of_features(operation: str) -> str:
    """Return a recorded excess of the features for which it was above 0 within the time that is shown."""
    highest = shown_maximum(FEATURES.recorded(f"{operation}{WINDOW}"), MODEL, VERSIONS)
    return moving(_of_features(operation), agreed(highest, *FEATURE))


def _of_outputs(operation: str) -> str:
    # A single output has no name.
    return named(agreed(select(OUTPUTS.recorded(f"{operation}{WINDOW}"), MODEL, VERSIONS), *TARGET), "target", "output")


def _of_confidence(operation: str) -> str:
    return agreed(select(f"version:{CONFIDENCE}:{operation}{WINDOW}", MODEL, VERSIONS), *VERSION)


def _worst() -> model.Panel:
    features = select(FEATURES.recorded(f"psi{ALERT_WINDOW}"), MODELS)
    said = select(OUTPUTS.recorded(f"psi{ALERT_WINDOW}"), MODELS)
    return lines(
        "Drift",
        f"Distance (PSI) of the last {ALERT_WINDOW} from the training data: of the worst feature, and of the "
        f"predictions. {RULE}",
        "none",
        Query(agreed(features, *VERSION), "{{model}} {{version}} worst feature"),
        Query(agreed(said, *VERSION), "{{model}} {{version}} predictions"),
        limits=PSI_STEPS[1:],
        no_value=TOO_FEW,
    )


def _medians() -> model.Panel:
    return lines(
        "Input features",
        "Median of each numeric feature, in the feature's own unit.",
        "none",
        Query(quantile(0.5, "inference_feature_value", MODELS, by=FEATURE), "{{model}} {{version}} {{feature}}"),
        negative=True,
    )


def _rate() -> model.Panel:
    rows = rate("inference_predictions_total", MODEL, VERSIONS)
    return number(
        "Rows per second", "Predicted and failed rows.", "rowsps", Query(total(rows, "version"), "{{version}}")
    )


def _failed() -> model.Panel:
    rows = "inference_predictions_total"
    failed = fraction(rate(rows, MODEL, VERSIONS, 'outcome="error"'), rate(rows, MODEL, VERSIONS), "version")
    return number(
        "Failed",
        "Share of the rows without a prediction; the reasons are below.",
        "percentunit",
        Query(failed, "{{version}}"),
        steps=((0, GREEN), (0.005, YELLOW), (0.05, RED)),
    )


def _rows() -> model.Panel:
    return number(
        "Rows in $window",
        f"Rows that drift is computed from. Fewer than {ROWS_MIN} are too few: choose a longer window.",
        "short",
        Query(agreed(_of_features("increase"), "version"), "{{version}}"),
        steps=((0, YELLOW), (ROWS_MIN, GREEN)),
    )


def _feature_psi() -> model.Panel:
    return number(
        "Feature drift",
        f"PSI of the worst feature against the training data. {RULE}",
        "none",
        Query(agreed(_of_features("psi"), "version"), "{{version}}"),
        steps=PSI_STEPS,
        decimals=3,
        no_value=TOO_FEW,
    )


def _output_psi() -> model.Panel:
    return number(
        "Output drift",
        f"PSI of the predictions against those for the training data. {RULE}",
        "none",
        Query(agreed(_of_outputs("psi"), "version"), "{{version}}"),
        steps=PSI_STEPS,
        decimals=3,
        no_value=TOO_FEW,
    )


def _unsure() -> model.Panel:
    return number(
        "Low confidence",
        f"Share of the rows whose highest class probability is at most {LOW_CONFIDENCE}. Classifiers only.",
        "percentunit",
        Query(agreed(_of_confidence("low_ratio"), "version"), "{{version}}"),
        no_value=TOO_FEW,
    )


def _table() -> model.Panel:
    share = Column("percentunit", decimals=1)
    return listing(
        "Each feature against training",
        f"Rows in the window, distances from the training data, and the noise floor: the PSI of unshifted data stays "
        f"below it in 99 of 100 cases. {RULE} Missing and out of range are shares of the rows. A feature links to its "
        "distribution.",
        Query(_of_features("increase"), "rows"),
        Query(_of_features("psi"), "PSI"),
        Query(_of_features("psi_noise"), "noise floor"),
        Query(_of_features("js"), "JS, bits"),
        Query(_share_of_features("missing_ratio"), "missing"),
        Query(_share_of_features("out_of_range_ratio"), "out of range"),
        columns={
            "version": Column(shortens_versions=True),
            "feature": Column(
                link=links.url(links.MODEL, model="${model}", window="${window}", feature="${__value.raw}")
            ),
            "rows": Column(decimals=0),
            "PSI": Column(decimals=3, steps=PSI_STEPS),
            "noise floor": Column(decimals=3),
            "JS, bits": Column(decimals=3),
            "missing": share,
            "out of range": share,
        },
        hidden=("model",),
        descending="PSI",
        no_value=TOO_FEW,
    )


def _psi() -> model.Panel:
    return lines(
        "PSI of each feature",
        f"Distance of the window from the training data, over time. {RULE}",
        "none",
        Query(_of_features("psi"), "{{version}} {{feature}}"),
        limits=PSI_STEPS[1:],
        no_value=TOO_FEW,
    )


def _output() -> model.Panel:
    return lines(
        "PSI of the predictions",
        f"Distance of the predictions from those for the training data, and its noise floor. {RULE}",
        "none",
        Query(_of_outputs("psi"), "{{version}} {{target}} PSI"),
        Query(_of_outputs("psi_noise"), "{{version}} {{target}} noise floor"),
        Query(_of_outputs("js"), "{{version}} {{target}} JS, bits"),
        limits=PSI_STEPS[1:],
        no_value=TOO_FEW,
    )


def _excess() -> model.Panel:
    return lines(
        "Missing and out of range",
        "Shares of the rows that lack a feature, or hold a number or text unknown to training, beyond what training "
        "had and chance explains. Alerts fire at the lines: out of range at the lower one.",
        "percentunit",
        Query(_excess_of_features("missing_excess"), "{{version}} {{feature}} missing"),
        Query(_excess_of_features("out_of_range_excess"), "{{version}} {{feature}} out of range"),
        limits=((OUT_OF_RANGE_EXCESS_MAX, YELLOW), (MISSING_EXCESS_MAX, RED)),
        negative=True,
        no_value=f"none, or {TOO_FEW}",
    )
