"""The overview: the one page for whoever is on call. Health first, then requests, the queue, the model, its data."""

from grafana_foundation_sdk.builders.dashboard import Dashboard, QueryVariable
from grafana_foundation_sdk.models import dashboard as model

from monitoring.dashboards.data import data_row
from monitoring.dashboards.health import health_row
from monitoring.dashboards.inference import inference_row
from monitoring.dashboards.jobs import jobs_row
from monitoring.dashboards.panels import DATASOURCE, lay_out
from monitoring.dashboards.promql import MODEL
from monitoring.dashboards.rollout import rollout_row
from monitoring.dashboards.traffic import traffic_row

UID = "millrace-overview"


def overview() -> model.Dashboard:
    """The dashboard, ready to be written as JSON."""
    dashboard = (
        Dashboard("Millrace: overview")
        .uid(UID)
        .description("Is it healthy, what do callers see, does the queue flow, and what does the model see and say?")
        .tags(["millrace"])
        .readonly()
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .refresh("10s")
        .time("now-15m", "now")
        .with_variable(_model_variable())
        .with_variable(_feature_variable())
        .build()
    )
    dashboard.panels = lay_out([health_row(), traffic_row(), jobs_row(), inference_row(), rollout_row(), data_row()])
    return dashboard


def _model_variable() -> QueryVariable:
    return (
        QueryVariable("model")
        .label("Model")
        .description("Models whose requests, predictions and features are shown.")
        .datasource(DATASOURCE)
        .query("label_values(inference_requests_total, model)")
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(model.VariableOption(selected=True, text=["All"], value=["$__all"]))
    )


def _feature_variable() -> QueryVariable:
    return (
        QueryVariable("feature")
        .label("Feature")
        .description("The feature that the last panels look at.")
        .datasource(DATASOURCE)
        .query(f"label_values(inference_feature_value_count{{{MODEL}}}, feature)")
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
        .multi(False)
        .include_all(False)
    )
