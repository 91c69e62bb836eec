"""The variables at the top of a dashboard."""

from grafana_foundation_sdk.builders.dashboard import CustomVariable, QueryVariable
from grafana_foundation_sdk.models import dashboard as model

from monitoring.dashboards.panels import DATASOURCE
from monitoring.dashboards.promql import KNOWN, MODEL, VERSIONS, WINDOW, agreed, select
from monitoring.rules.drift import FEATURES, WINDOWS

DEFAULT_WINDOW = "1h"
"""The window that alerts look at first."""


def models() -> QueryVariable:
    """Return a choice of any number of models, compared with `=~`."""
    return _several(
        "model", "Model", "Models that are shown.", f"label_values({select('inference_requests_total', KNOWN)}, model)"
    )


def one_model() -> QueryVariable:
    """Return a choice of one model, compared with `=`: its features and outputs have names and units of their own."""
    return _single("model", "Model", "The model that is shown.", "label_values(inference_model_info, model)")


def versions() -> QueryVariable:
    """Return a choice of any number of versions of that model, compared with `=~`."""
    query = f"label_values({select('inference_model_info', MODEL)}, version)"
    return _several("version", "Version", "Versions of the model that are shown.", query)


def feature() -> QueryVariable:
    """Return a choice of one feature of that model, compared with `=`: the worst one first, which Grafana chooses."""
    distance = agreed(select(FEATURES.recorded(f"psi{WINDOW}"), MODEL, VERSIONS), "feature")
    # A window with too few rows has no distances.
    nothing = f"0 * {agreed(select('inference_feature_bin_total', MODEL, VERSIONS), 'feature')}"
    query = f"query_result(sort_desc({distance} or {nothing}))"
    return (
        _single("feature", "Feature", "The feature that is shown in detail; the worst is the first.", query)
        .regex(r'/\{feature="(.*)"\}/')
        .sort(model.VariableSort.DISABLED)
    )


def window() -> CustomVariable:
    """Return a choice of the time that drift is measured over; recording rules exist for these times only."""
    lengths = [window.length for window in WINDOWS]
    return (
        CustomVariable("window")
        .label("Drift over")
        .description(
            "Drift is computed over these windows, whatever time is shown. Alerts use 1h, or 24h with little traffic."
        )
        .values(",".join(lengths))
        .current(model.VariableOption(selected=True, text=DEFAULT_WINDOW, value=DEFAULT_WINDOW))
        .options([model.VariableOption(selected=text == DEFAULT_WINDOW, text=text, value=text) for text in lengths])
        .multi(False)
        .include_all(False)
    )


def instances(of: str, description: str) -> QueryVariable:
    """Return a choice of any number of targets, compared with `=~`; `of` selects the series of `up` that name them."""
    return _several("instance", "Instance", description, f"label_values({of}, instance)")


def _single(name: str, label: str, description: str, query: str) -> QueryVariable:
    return (
        QueryVariable(name)
        .label(label)
        .description(description)
        .datasource(DATASOURCE)
        .query(query)
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
        .multi(False)
        .include_all(False)
    )


def _several(name: str, label: str, description: str, query: str) -> QueryVariable:
    return (
        _single(name, label, description, query)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(model.VariableOption(selected=True, text=["All"], value=["$__all"]))
    )
