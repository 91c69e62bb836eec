"""The broker: whether it answers, and how full it is."""

from grafana_foundation_sdk.models import dashboard as model

from monitoring.dashboards.panels import GREEN, RED, Query, lines, number
from monitoring.dashboards.promql import agreed

USED, LIMIT = "inference_broker_memory_bytes", "inference_broker_memory_limit_bytes"


def broker() -> model.Panel:
    """Whether it answers."""
    return number(
        "Broker",
        "Whether every gateway reaches Redis. If not, new requests get 503; accepted jobs are safe in it.",
        "none",
        Query("min(inference_broker_up)"),
        names={"0": ("down", RED), "1": ("up", GREEN)},
    )


def memory() -> model.Panel:
    """How full it is."""
    return lines(
        "Broker memory",
        "What Redis uses, and its limit (maxmemory; 0: none). At the limit it refuses writes: new jobs get 503, "
        "accepted ones stay.",
        "bytes",
        Query(agreed(USED), "used"),
        Query(agreed(LIMIT), "limit"),
    )
