"""The overview: the home page, and the one that says to whoever is on call what is wrong, and where to go on."""

from grafana_foundation_sdk.models import dashboard as model

from monitoring.dashboards.alerts import firing_count
from monitoring.dashboards.backlog import saturation, waiting
from monitoring.dashboards.board import board
from monitoring.dashboards.broker import broker
from monitoring.dashboards.drift import summary_row
from monitoring.dashboards.jobs import dead_letters, unaccounted
from monitoring.dashboards.layout import Row
from monitoring.dashboards.links import OVERVIEW, PLATFORM, QUEUE, leading_to
from monitoring.dashboards.objectives import objectives_row
from monitoring.dashboards.requests import depth_row, p95, request_rate, requests_row, success
from monitoring.dashboards.scrapes import targets
from monitoring.dashboards.variables import models
from monitoring.dashboards.workers import workers


def overview() -> model.Dashboard:
    """The dashboard, ready to be written as JSON."""
    return board(
        OVERVIEW,
        "overview",
        "Is it healthy, what do callers see, and do the models see what they were trained on?",
        [_now_row(), objectives_row(), requests_row(), summary_row(), depth_row()],
        models(),
    )


def _now_row() -> Row:
    """What callers see, then what they don't: is it up, can it work, has anything got lost?"""
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
            (9, leading_to(PLATFORM, targets())),
            (3, leading_to(PLATFORM, broker())),
            (4, leading_to(QUEUE, saturation())),
            (4, leading_to(QUEUE, dead_letters())),
            (4, leading_to(QUEUE, unaccounted())),
        ],
    )
