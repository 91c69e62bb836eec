"""The overview dashboard: the home page, which shows what is wrong and links to the details."""

from grafana_foundation_sdk.models import dashboard as model

from monitoring.dashboards.alerts import firing_count
from monitoring.dashboards.backlog import saturation, waiting
from monitoring.dashboards.board import board
from monitoring.dashboards.broker import broker
from monitoring.dashboards.drift import summary_row
from monitoring.dashboards.jobs import dead_letters, unaccounted
from monitoring.dashboards.layout import Row
from monitoring.dashboards.links import OVERVIEW, PLATFORM, QUEUE, leading_to
from monitoring.dashboards.models import models_row
from monitoring.dashboards.objectives import objectives_row
from monitoring.dashboards.requests import depth_row, p95, request_rate, requests_row, success
from monitoring.dashboards.scrapes import targets
from monitoring.dashboards.variables import models
from monitoring.dashboards.workers import workers


def overview() -> model.Dashboard:
    """Return the dashboard, ready to be written as JSON."""
    return board(
        OVERVIEW,
        "overview",
        "Health of the service, requests as callers see them, and drift of the models' inputs and predictions.",
        [_now_row(), models_row(), requests_row(), objectives_row(), summary_row(), depth_row()],
        models(),
    )


def _now_row() -> Row:
    """Return the numbers of the present moment: requests first, then processes, limits and losses."""
    return Row(
        "Now",
        4,
        [
            (4, request_rate()),
            (4, success()),
            (4, p95()),
            (4, leading_to(QUEUE, waiting())),
            (4, leading_to(QUEUE, workers())),
            (4, leading_to(PLATFORM, firing_count())),
            (8, leading_to(PLATFORM, targets())),
            (4, leading_to(PLATFORM, broker())),
            (4, leading_to(QUEUE, saturation())),
            (4, leading_to(QUEUE, dead_letters())),
            (4, leading_to(QUEUE, unaccounted())),
        ],
    )
