"""Panels of the broker: its reachability and its memory."""

from grafana_foundation_sdk.models import dashboard as model

from monitoring.dashboards.colours import GREEN, RED
from monitoring.dashboards.panels import Query, lines, number
from monitoring.dashboards.promql import agreed

USED, LIMIT = "inference_broker_memory_bytes", "inference_broker_memory_limit_bytes"


def broker() -> model.Panel:
    """Return the reachability."""
    return number(
        "Broker",
        "Down if a gateway does not reach Redis: new requests there get 503, and accepted jobs are safe.",
        "none",
        Query("min(inference_broker_up)"),
        names={"0": ("down", RED), "1": ("up", GREEN)},
    )


def memory() -> model.Panel:
    """Return the memory over time."""
    return lines(
        "Broker memory",
        "Memory that Redis uses, and its limit (maxmemory; 0: none). At the limit it refuses writes: new jobs get 503, "
        "accepted ones stay.",
        "bytes",
        Query(agreed(USED), "used"),
        Query(agreed(LIMIT), "limit"),
    )
