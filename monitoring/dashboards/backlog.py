"""Panels of the backlog: its size, its age, the expected wait, and the distance to the limits."""

from grafana_foundation_sdk.models import dashboard as model

from monitoring.dashboards.colours import GREEN, RED, YELLOW
from monitoring.dashboards.layout import Row
from monitoring.dashboards.panels import Query, heat, lines, number
from monitoring.dashboards.promql import agreed, increase, known, quantile, rate, total
from monitoring.rules.alerts_queue import SATURATED, SATURATION, STUCK_SECONDS

DEPTH = "inference_queue_depth"
AGE = "inference_queue_oldest_job_age_seconds"
ESTIMATED = "inference_queue_estimated_wait_seconds"
WAIT = "inference_queue_wait_seconds"
LANES = ("interactive", "bulk")
NO_WORKER = "no worker"


def waiting() -> model.Panel:
    """Return the depth of both lanes together."""
    return number(
        "Queue depth",
        "Queue entries that no worker has taken yet, in both lanes. An entry holds the rows of many requests.",
        "short",
        Query(f"sum({agreed(DEPTH, 'lane')})"),
    )


def saturation() -> model.Panel:
    """Return the share of the limit that is nearest."""
    return number(
        "Saturation",
        "Open jobs or waiting rows as a share of their limit, whichever is greater. At 100 % callers get 503.",
        "percentunit",
        Query(agreed(SATURATION)),
        steps=((0, GREEN), (SATURATED, YELLOW), (1, RED)),
    )


def numbers() -> list[model.Panel]:
    """Return the numbers of the present moment, by lane or limit."""
    return [_depth_now(), _age_now(), _estimated_now(), _saturation_now()]


def backlog_row() -> Row:
    """Return the row that shows the backlog over time, and whether it grows."""
    return Row(
        "Backlog",
        8,
        [(8, _depth()), (8, _age()), (8, _saturation()), (8, _flow()), (8, _estimated()), (8, _held())],
    )


def time_row() -> Row:
    """Return the row that splits the time of a request."""
    return Row("Time", 8, [(12, _split()), (12, _jobs()), *((12, _waits(lane)) for lane in LANES)])


def _depth_now() -> model.Panel:
    return number(
        "Waiting entries",
        "Queue entries that no worker has taken yet.",
        "short",
        Query(agreed(DEPTH, "lane"), "{{lane}}"),
    )


def _age_now() -> model.Panel:
    return number(
        "Oldest entry now",
        "Age of the entry that has waited longest. Yellow: an alert fires unless the queue gets shorter.",
        "s",
        Query(agreed(AGE, "lane"), "{{lane}}"),
        steps=((0, GREEN), (STUCK_SECONDS, YELLOW)),
    )


def _estimated_now() -> model.Panel:
    return number(
        "Estimated wait now",
        "Expected wait of a request that is accepted now, from the rows in front of it and their pace.",
        "s",
        Query(known(agreed(ESTIMATED, "lane")), "{{lane}}"),
        no_value=NO_WORKER,
    )


def _saturation_now() -> model.Panel:
    return number(
        "Saturation by limit now",
        "Jobs without an outcome, and rows that wait in a gateway, as shares of their limits. At 100 % callers get "
        "503.",
        "percentunit",
        Query(agreed(SATURATION, "limit"), "{{limit}}"),
        steps=((0, GREEN), (SATURATED, YELLOW), (1, RED)),
    )


def _depth() -> model.Panel:
    return lines(
        "Depth by lane",
        "Queue entries that no worker has taken yet, and rows that wait in the gateways for a permit.",
        "short",
        Query(agreed(DEPTH, "lane"), "{{lane}} entries"),
        Query(total("inference_waiting_rows"), "rows in gateways"),
    )


def _age() -> model.Panel:
    return lines(
        "Oldest entry",
        "Age of the entry that has waited longest: the best sign of a backlog, whatever its length. Above the line, an "
        "alert fires unless the queue gets shorter.",
        "s",
        Query(agreed(AGE, "lane"), "{{lane}}"),
        limits=((STUCK_SECONDS, RED),),
    )


def _saturation() -> model.Panel:
    return lines(
        "Saturation by limit",
        "Jobs without an outcome, and rows that wait in a gateway, as shares of their limits. At 100 % callers get "
        "503; an alert fires at the line.",
        "percentunit",
        Query(agreed(SATURATION, "limit"), "{{limit}}"),
        limits=((SATURATED, RED),),
    )


def _flow() -> model.Panel:
    entered = rate("inference_requests_total", 'outcome!~"invalid|rejected"')
    return lines(
        "Accepted and started",
        "Requests and jobs that were accepted, and those whose batch was started. More accepted: the queue grows. "
        "More started: it shrinks, jobs run again, or a shadow gets its copies.",
        "ops",
        Query(total(entered, "lane"), "{{lane}} accepted"),
        Query(total(rate(f"{WAIT}_count"), "lane"), "{{lane}} started"),
    )


def _estimated() -> model.Panel:
    return lines(
        "Estimated wait",
        "Expected wait of a request that is accepted at this moment, from the rows in front of it and their pace.",
        "s",
        Query(known(agreed(ESTIMATED, "lane")), "{{lane}}"),
        no_value=NO_WORKER,
    )


def _held() -> model.Panel:
    return lines(
        "Open and unacknowledged",
        "Jobs without an outcome yet, and queue entries that a worker has taken.",
        "short",
        Query(agreed("inference_jobs_open"), "open jobs"),
        Query(agreed("inference_queue_unacked"), "unacknowledged entries"),
    )


def _split() -> model.Panel:
    return lines(
        "Queue, compute and total",
        "P95 of the time that calls waited, that batches computed, and until callers got their prediction. The rest of "
        "the total is transport.",
        "s",
        Query(quantile(0.95, "inference_request_duration_seconds", 'lane="interactive"'), "total"),
        Query(quantile(0.95, WAIT, 'lane="interactive"'), "queue"),
        Query(quantile(0.95, "inference_compute_seconds"), "compute"),
    )


def _jobs() -> model.Panel:
    seconds = "inference_job_duration_seconds"
    return lines(
        "Job duration",
        "Time from acceptance to the outcome that a worker stored.",
        "s",
        Query(quantile(0.5, seconds, by=("model",)), "P50 {{model}}"),
        Query(quantile(0.95, seconds, by=("model",)), "P95 {{model}}"),
    )


def _waits(lane: str) -> model.Panel:
    return heat(
        f"Queue wait, {lane}",
        "Time from acceptance to the start of the batch, measured by the workers.",
        "s",
        Query(total(increase(f"{WAIT}_bucket", f'lane="{lane}"'), "le"), "{{le}}"),
    )
