"""Panels of the broker: its reachability, and its memory with the results in it."""

from grafana_foundation_sdk.models import dashboard as model

from monitoring.dashboards.colours import GREEN, ORANGE, RED
from monitoring.dashboards.layout import Row
from monitoring.dashboards.panels import Query, lines, number
from monitoring.dashboards.promql import agreed, shown_increase

USED_AND_LIMIT = (
    Query(agreed("inference_broker_memory_bytes"), "used"),
    Query(agreed("inference_broker_memory_limit_bytes"), "limit"),
)
"""Memory in bytes."""


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
        *USED_AND_LIMIT,
    )


def memory_row() -> Row:
    """Return the row of what fills Redis."""
    kept = lines(
        "Memory and kept results",
        "Memory that Redis uses, and its limit: at 90 % new jobs get 503. Results of 1 kB and more, and the bytes that "
        "they may take: beyond them the oldest go, and their jobs answer 410.",
        "bytes",
        *USED_AND_LIMIT,
        Query(agreed("inference_result_bytes"), "kept results"),
        Query(agreed("inference_result_bytes_limit"), "limit of results"),
    )
    dropped = number(
        "Results dropped",
        "Results that made room for newer ones in the time that is shown. Callers who come for them get 410.",
        "none",
        Query(agreed(shown_increase("inference_results_dropped_total"))),
        steps=((0, GREEN), (1, ORANGE)),
        decimals=0,
    )
    return Row("Memory", 8, [(18, kept), (6, dropped)])
