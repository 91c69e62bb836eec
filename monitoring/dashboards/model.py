"""The dashboard of one model: predictions, inputs, and their distance from training."""

from grafana_foundation_sdk.models import dashboard

from monitoring.dashboards.board import board
from monitoring.dashboards.drift import drift_row, now_row
from monitoring.dashboards.features import feature_row, version_row
from monitoring.dashboards.links import MODEL
from monitoring.dashboards.loads import loads_row
from monitoring.dashboards.predictions import predictions_row
from monitoring.dashboards.rollout import rollout_row
from monitoring.dashboards.variables import feature, one_model, versions, window


def model() -> dashboard.Dashboard:
    """Return the dashboard, ready to be written as JSON."""
    return board(
        MODEL,
        "model and data",
        "One model: its predictions, its confidence, its inputs against the training data, and its versions.",
        [now_row(), drift_row(), version_row(), feature_row(), predictions_row(), loads_row(), rollout_row()],
        one_model(),
        versions(),
        window(),
        feature(),
    )
