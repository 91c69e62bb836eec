"""The backlog: how much waits, how long it has and will, and how near the limits are."""

from grafana_foundation_sdk.models import dashboard as model

from monitoring.dashboards.layout import Row
from monitoring.dashboards.panels import GREEN, RED, YELLOW, Query, heat, lines, number
from monitoring.dashboards.promql import agreed, increase, quantile, rate, total
from monitoring.rules.alerts_queue import SATURATED, SATURATION, STUCK_SECONDS

DEPTH = "inference_queue_depth"
AGE = "inference_queue_oldest_job_age_seconds"
ESTIMATED = "inference_queue_estimated_wait_seconds"
WAIT = "inference_queue_wait_seconds"
LANES = ("interactive", "bulk")


def waiting() -> model.Panel:
    """All that waits."""
    return number(
        "Queue depth",
        "Tasks that no worker has taken yet, in both lanes. A task holds the rows of many requests.",
        "short",
        Query(f"sum({agreed(DEPTH, 'lane')})"),
    )


def saturation() -> model.Panel:
    """How near the nearest limit is."""
    return number(
        "Saturation",
        "Of what is accepted at most, open jobs or rows that wait, how much is there: the greater of both. At 100 % "
        "callers get 503.",
        "percentunit",
        Query(agreed(SATURATION)),
        steps=((0, GREEN), (SATURATED, YELLOW), (1, RED)),
    )


def numbers() -> list[model.Panel]:
    """The present moment, by lane or limit."""
    return [_depth_now(), _age_now(), _estimated_now(), _saturation_now()]


def backlog_row() -> Row:
    """The same over time, and whether it grows."""
    return Row(
        "Backlog",
        8,
        [(8, _depth()), (8, _age()), (8, _saturation()), (8, _flow()), (8, _estimated()), (8, _held())],
    )


def time_row() -> Row:
    """Where the time of a request goes."""
    return Row("Time", 8, [(12, _split()), (12, _jobs()), *((12, _waits(lane)) for lane in LANES)])


def _depth_now() -> model.Panel:
    return number(
        "Waiting tasks", "Tasks that no worker has taken yet.", "short", Query(agreed(DEPTH, "lane"), "{{lane}}")
    )


def _age_now() -> model.Panel:
    return number(
        "Oldest now",
        "Age of the task that has waited longest. Yellow: so old that an alert fires unless the queue gets shorter.",
        "s",
        Query(agreed(AGE, "lane"), "{{lane}}"),
        steps=((0, GREEN), (STUCK_SECONDS, YELLOW)),
    )


def _estimated_now() -> model.Panel:
    return number(
        "Wait of a new one",
        "How long what is accepted now would wait, by what is in front of it and how fast that goes.",
        "s",
        Query(agreed(ESTIMATED, "lane"), "{{lane}}"),
    )


def _saturation_now() -> model.Panel:
    return number(
        "Share of the limits",
        "Jobs without an outcome, and rows that wait in a gateway, of those that are accepted at most. At 100 % "
        "callers get 503.",
        "percentunit",
        Query(agreed(SATURATION, "limit"), "{{limit}}"),
        steps=((0, GREEN), (SATURATED, YELLOW), (1, RED)),
    )


def _depth() -> model.Panel:
    return lines(
        "Depth by lane",
        "Tasks that no worker has taken yet, and rows that wait in the gateways for a free slot.",
        "short",
        Query(agreed(DEPTH, "lane"), "{{lane}} tasks"),
        Query(total("inference_waiting_rows"), "rows in gateways"),
    )


def _age() -> model.Panel:
    return lines(
        "Oldest task",
        "Age of the task that has waited longest: the best sign of a backlog, whatever its length. From the line on, "
        "an alert fires unless the queue gets shorter.",
        "s",
        Query(agreed(AGE, "lane"), "{{lane}}"),
        limits=((STUCK_SECONDS, RED),),
    )


def _saturation() -> model.Panel:
    return lines(
        "Saturation by limit",
        "Jobs without an outcome, and rows that wait in a gateway, of those that are accepted at most. At 100 % "
        "callers get 503; an alert fires at the line.",
        "percentunit",
        Query(agreed(SATURATION, "limit"), "{{limit}}"),
        limits=((SATURATED, RED),),
    )


def _flow() -> model.Panel:
    entered = rate("inference_requests_total", 'outcome!~"invalid|rejected"')
    return lines(
        "In and out",
        "Requests and jobs that were let in, and those whose batch was started. More in than out: the queue grows. "
        "More out than in: it shrinks, jobs run again, or a shadow gets its copies.",
        "ops",
        Query(total(entered, "lane"), "{{lane}} in"),
        Query(total(rate(f"{WAIT}_count"), "lane"), "{{lane}} out"),
    )


def _estimated() -> model.Panel:
    return lines(
        "Estimated wait",
        "How long what is accepted at this moment would wait, by what is in front of it and how fast that goes.",
        "s",
        Query(agreed(ESTIMATED, "lane"), "{{lane}}"),
    )


def _held() -> model.Panel:
    return lines(
        "Open and unacknowledged",
        "Jobs without an outcome yet, and tasks in the hands of a worker.",
        "short",
        Query(agreed("inference_jobs_open"), "open jobs"),
        Query(agreed("inference_queue_unacked"), "unacknowledged tasks"),
    )


def _split() -> model.Panel:
    return lines(
        "Queue, compute and total",
        "P95 of how long calls waited, batches computed, and callers got their prediction. What is in the total and in "
        "neither of the others is transport.",
        "s",
        Query(quantile(0.95, "inference_request_duration_seconds", 'lane="interactive"'), "total"),
        Query(quantile(0.95, WAIT, 'lane="interactive"'), "queue"),
        Query(quantile(0.95, "inference_compute_seconds"), "compute"),
    )


def _jobs() -> model.Panel:
    seconds = "inference_job_duration_seconds"
    return lines(
        "Job duration",
        "From acceptance to the outcome that a worker gave the job.",
        "s",
        Query(quantile(0.5, seconds, by=("model",)), "P50 {{model}}"),
        Query(quantile(0.95, seconds, by=("model",)), "P95 {{model}}"),
    )


def _waits(lane: str) -> model.Panel:
    return heat(
        f"Queue wait, {lane}",
        "From acceptance to the start of the batch, as the workers measured it.",
        "s",
        Query(total(increase(f"{WAIT}_bucket", f'lane="{lane}"'), "le"), "{{le}}"),
    )
