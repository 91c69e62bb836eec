"""Colours by meaning: a name has the same colour in every panel of every dashboard.

Green went well, red failed through our fault, orange was turned away, yellow is the caller's error, grey was given up,
and blue and purple have no meaning. Names that are not known here (models, versions, features, targets) get the colour
that Grafana computes from the name.
"""

import re
from collections.abc import Iterable, Iterator
from itertools import product

from gateway.metrics import OUTCOMES as REQUEST_OUTCOMES
from gateway.metrics import REJECTIONS
from shared.queue.contract import OUTCOMES as JOB_OUTCOMES
from shared.queue.contract import ErrorCode, Lane

GREEN, YELLOW, ORANGE, RED, BLUE, PURPLE, GREY = "green", "yellow", "orange", "red", "blue", "purple", "#8e8e8e"

COLOURS = {
    # Outcomes of requests, jobs, rows and loads.
    "ok": GREEN,
    "succeeded": GREEN,
    "invalid": YELLOW,
    "unknown model": "light-yellow",
    "rejected": ORANGE,
    "timeout": "dark-red",
    "failed": RED,
    "error": RED,
    "refused": RED,
    "cancelled": GREY,
    "expired": "#c4c4c4",
    # Reasons of rejections. Those before the limits are the caller's.
    "slow_client": YELLOW,
    "invalid_http": "super-light-yellow",
    "too_large": "dark-yellow",
    "rate_limited": "light-yellow",
    "quota_exceeded": "semi-dark-yellow",
    "overloaded": ORANGE,
    "queue_full": "dark-orange",
    "bodies_full": "light-orange",
    "answers_full": "semi-dark-orange",
    "connections_full": "super-light-orange",
    "stopping": "super-light-purple",
    "no_worker": RED,
    "broker_unavailable": "dark-red",
    "not_replicated": "semi-dark-red",
    # Codes of rows without a prediction.
    "prediction_failed": RED,
    "row_rejected": "super-light-yellow",
    "row refused": "super-light-yellow",
    "result_too_large": "super-light-red",
    "model_unavailable": PURPLE,
    "deadline_exceeded": ORANGE,
    "time_limit": "dark-orange",
    "worker_lost": "dark-red",
    # Actions of the reconciler.
    "waiting": BLUE,
    "republished": ORANGE,
    "gone": GREY,
    "damaged": RED,
    # Answers by class.
    "2xx": GREEN,
    "3xx": BLUE,
    "4xx": YELLOW,
    "5xx": RED,
    # Lanes, and what happens in them.
    "interactive": BLUE,
    "bulk": PURPLE,
    "interactive entries": BLUE,
    "bulk entries": PURPLE,
    "interactive accepted": BLUE,
    "bulk accepted": PURPLE,
    "interactive started": "light-blue",
    "bulk started": "light-purple",
    "rows in gateways": "light-blue",
    # Jobs, entries and losses.
    "accepted": BLUE,
    "open jobs": BLUE,
    "unacknowledged entries": PURPLE,
    "unaccounted jobs": RED,
    "dead letters": ORANGE,
    "workers stalled": RED,
    "dropped": ORANGE,
    # Celery's events.
    "received": "light-blue",
    "started": BLUE,
    "retried": ORANGE,
    # Limits and what is used of them.
    "open_jobs": BLUE,
    "waiting_rows": PURPLE,
    "in use": BLUE,
    "used": BLUE,
    "slots": GREY,
    "workers": GREY,
    "wanted": BLUE,
    "limit": GREY,
    "kept results": PURPLE,
    "limit of results": ORANGE,
    # Parts of a time, and quantiles.
    "total": BLUE,
    "queue": ORANGE,
    "compute": PURPLE,
    "P50": "light-blue",
    "P95": BLUE,
    "P99": "dark-blue",
    "P95 of accepting a job": PURPLE,
    # Distributions.
    "live": BLUE,
    "training": GREY,
    "series": BLUE,
}
"""Name of a series in a legend -> its colour."""

OPEN = frozenset(
    {"model", "version", "shadow", "feature", "target", "range", "job", "instance", "hostname", "method", "route"}
    | {"name", "queue_name", "rule_group", "le", "slo"}
)
"""Labels whose values are not known before they are seen."""

CLOSED: dict[str, tuple[str, ...]] = {
    "outcome": (*REQUEST_OUTCOMES, *(outcome.value for outcome in JOB_OUTCOMES), "error", "refused"),
    "reason": REJECTIONS,
    "code": tuple(code.value for code in ErrorCode),
    "action": ("gone", "damaged", "expired", "worker_lost", "waiting", "republished"),
    "answers": ("2", "3", "4", "5"),
    "lane": tuple(lane.value for lane in Lane),
    "limit": ("open_jobs", "waiting_rows"),
}
"""Label -> all of its values."""

_LABEL = re.compile(r"\{\{(\w+)\}\}")


def names(legend: str) -> Iterator[str]:
    """Yield the names that a legend can have; none if it holds a label of OPEN.

    Raises:
        KeyError: if it holds a label that is neither in OPEN nor in CLOSED.
    """
    labels = _LABEL.findall(legend)
    if OPEN.intersection(labels):
        return
    for values in product(*(CLOSED[label] for label in labels)):
        yield _LABEL.sub("{}", legend).format(*values)


def fixed(legends: Iterable[str]) -> dict[str, str]:
    """Return the colour of every name that these legends can have and that is not left to Grafana.

    Raises:
        KeyError: if a name has no colour.
    """
    return {name: COLOURS[name] for legend in legends for name in names(legend)}
