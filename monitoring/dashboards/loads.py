"""Panels of model loads: versions in memory, and refused versions."""

from grafana_foundation_sdk.models import dashboard as model

from monitoring.dashboards.layout import Row
from monitoring.dashboards.panels import Column, Query, lines, listing
from monitoring.dashboards.promql import MODEL, agreed, increase, moving, moving_rate, select, shown_increase, total

INFO = ("version", "estimator", "scikit_learn", "digest")


def loads_row() -> Row:
    """Return the row of loaded versions and the outcomes of loads."""
    return Row("Versions", 8, [(12, _loaded()), (6, _outcomes()), (6, _dropped())])


def _loaded() -> model.Panel:
    workers = total(select("inference_model_info", MODEL), *INFO)
    loaded = agreed(select("inference_model_loaded_timestamp_seconds", MODEL), "version")
    seconds = agreed(select("inference_model_load_seconds", MODEL), "version")
    return listing(
        "Loaded versions",
        "Versions that workers have loaded since they started: the file (start of its SHA-256), the time of the last "
        "load, and how long it took.",
        Query(workers, "workers"),
        Query(f"{loaded} * 1000", "loaded"),
        Query(seconds, "took"),
        columns={
            **{label: Column() for label in INFO},
            "workers": Column(unit="none"),
            "loaded": Column(unit="dateTimeAsIso"),
            "took": Column(unit="s"),
        },
        descending="loaded",
    )


def _outcomes() -> model.Panel:
    loads = "inference_model_loads_total"
    now, shown = (total(grown(loads, MODEL), "outcome") for grown in (increase, shown_increase))
    return lines(
        "Loads and refusals",
        "Loads into pool children. Refused: digest, library versions, types or samples differ from the manifest; "
        "the previous version goes on answering.",
        "short",
        Query(moving(now, shown), "{{outcome}}"),
        no_value="no load lately",
    )


def _dropped() -> model.Panel:
    return lines(
        "Shadow rows dropped",
        "Rows that were not sent to a shadow version because the workers were busy; all models.",
        "rowsps",
        Query(moving_rate("inference_shadow_rows_dropped_total"), "dropped"),
        no_value="none dropped",
    )
