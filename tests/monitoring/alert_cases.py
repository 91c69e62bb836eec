"""Cases in which each alert fires, and similar ones in which it must not, in promtool's notation of series.

`fires` and `silent` are the series of the two situations, one value a minute unless `interval` says otherwise; `at` is
when one looks. The series of `IDLE` are there in both, unless a situation has series of the same name and job.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

Series = Mapping[str, str]
"""Series -> its values."""

GATEWAY = 'job="gateway", instance="gateway:8000"'
WORKER = 'job="worker", instance="worker:9101"'


@dataclass(frozen=True)
class Case:
    """One case; `labels` are those of the firing alert, beside its name and severity."""

    fires: Series
    silent: Series
    at: str = "30m"
    labels: Mapping[str, str] = field(default_factory=dict)
    interval: str = "1m"


def gateway(name: str, values: str, labels: str = "") -> Series:
    return {f"inference_{name}{{{', '.join(filter(None, (GATEWAY, labels)))}}}": values}


def worker(name: str, values: str, labels: str = "") -> Series:
    return {f"inference_{name}{{{', '.join(filter(None, (WORKER, labels)))}}}": values}


def requests(outcome: str, values: str, lane: str = "interactive") -> Series:
    return gateway("requests_total", values, f'model="iris", lane="{lane}", outcome="{outcome}"')


def rows(outcome: str, values: str) -> Series:
    return worker("predictions_total", values, f'model="iris", version="1", outcome="{outcome}"')


def errors(code: str, values: str) -> Series:
    return worker("errors_total", values, f'model="iris", version="1", code="{code}"')


FOREVER = "x5000"

IDLE: Series = {
    f"up{{{GATEWAY}}}": "1" + FOREVER,
    f"up{{{WORKER}}}": "1" + FOREVER,
    'up{job="celery-exporter", instance="celery-exporter:9808"}': "1" + FOREVER,
    f"scrape_duration_seconds{{{GATEWAY}}}": "0.01" + FOREVER,
    f"scrape_duration_seconds{{{WORKER}}}": "0.02" + FOREVER,
    'scrape_duration_seconds{job="celery-exporter", instance="celery-exporter:9808"}': "2.05" + FOREVER,
    f"scrape_samples_scraped{{{WORKER}}}": "700" + FOREVER,
    'prometheus_rule_evaluation_failures_total{job="prometheus", rule_group="slo"}': "0" + FOREVER,
    **gateway("broker_up", "1" + FOREVER),
    **gateway("workers", "1" + FOREVER),
    **gateway("workers_expected", "1" + FOREVER),
    **gateway("dead_letters", "0" + FOREVER),
    **gateway("jobs_accepted_total", "0" + FOREVER),
    **gateway("jobs_open", "0" + FOREVER),
    **gateway("jobs_open_limit", "100000" + FOREVER),
    **gateway("waiting_rows", "0" + FOREVER),
    **gateway("waiting_rows_limit", "50000" + FOREVER),
    **{
        series: values
        for outcome in ("succeeded", "failed", "cancelled", "expired")
        for series, values in gateway("jobs_ended_total", "0" + FOREVER, f'outcome="{outcome}"').items()
    },
    **gateway("jobs_rejected_total", "0" + FOREVER),
    **{
        series: values
        for action in ("gone", "expired", "worker_lost", "waiting", "republished")
        for series, values in gateway("jobs_reconciled_total", "0" + FOREVER, f'action="{action}"').items()
    },
    **{
        series: values
        for lane in ("interactive", "bulk")
        for series, values in {
            **gateway("queue_depth", "0" + FOREVER, f'lane="{lane}"'),
            **gateway("queue_oldest_job_age_seconds", "0" + FOREVER, f'lane="{lane}"'),
            **gateway("request_duration_seconds_count", "0" + FOREVER, f'model="iris", lane="{lane}"'),
            **gateway("request_duration_seconds_bucket", "0" + FOREVER, f'model="iris", lane="{lane}", le="0.25"'),
            **worker("queue_wait_seconds_count", "0" + FOREVER, f'lane="{lane}"'),
            **worker("queue_wait_seconds_bucket", "0" + FOREVER, f'lane="{lane}", le="300.0"'),
        }.items()
    },
    **{
        series: values
        for lane in ("interactive", "bulk")
        for outcome in ("ok", "invalid", "rejected", "failed", "timeout")
        for series, values in requests(outcome, "0" + FOREVER, lane).items()
    },
    **worker("predictions_total", "0" + FOREVER, 'model="iris", version="1", outcome="ok"'),
    **worker("predictions_total", "0" + FOREVER, 'model="iris", version="1", outcome="error"'),
    **worker("errors_total", "0" + FOREVER, 'model="iris", version="1", code="worker_lost"'),
    **worker("errors_total", "0" + FOREVER, 'model="iris", version="1", code="row_rejected"'),
    **worker("model_loads_total", "2" + FOREVER, 'model="iris", outcome="ok"'),
    **worker("model_loads_total", "0" + FOREVER, 'model="iris", outcome="refused"'),
}
"""A stack that has just been started, without traffic."""

OF_REQUESTS = {"slo": "availability", "model": "iris", "lane": "interactive"}


def old_entry(age: str, depth: str, lane: str = "bulk") -> Series:
    return {
        **gateway("queue_oldest_job_age_seconds", age, f'lane="{lane}"'),
        **gateway("queue_depth", depth, f'lane="{lane}"'),
    }


CASES: Mapping[str, Case] = {
    "HeadraceErrorBudgetBurnFast": Case(
        fires={**requests("ok", "0+100x90"), **requests("failed", "0+10x90")},
        # All requests failed, but there were few.
        silent=requests("failed", "0x20 1 2 3 4 5 5x90"),
        labels=OF_REQUESTS,
    ),
    "HeadraceErrorBudgetBurnSlow": Case(
        fires={**requests("ok", "0+200x900"), **requests("timeout", "0+2x900")},
        # Invalid requests.
        silent={**requests("ok", "0+200x900"), **requests("invalid", "0+50x900")},
        at="10h",
        labels=OF_REQUESTS,
    ),
    "HeadraceBrokerDown": Case(
        fires=gateway("broker_up", "1x10 0x50"),
        silent=gateway("broker_up", "1x29 0 1x30"),
        labels={"job": "gateway", "instance": "gateway:8000"},
    ),
    "HeadraceWorkersAbsent": Case(
        fires=gateway("workers", "1x10 0x50"),
        # Nothing is known about workers while the broker is down, which has an alert of its own.
        silent={**gateway("workers", "1x10 0x50"), **gateway("broker_up", "1x10 0x50")},
    ),
    "HeadraceWorkersMissing": Case(
        fires={**gateway("workers_expected", "3x60"), **gateway("workers", "3x10 2x50")},
        # Without any worker, another alert fires; before that, one was replaced within the time.
        silent={**gateway("workers_expected", "3x60"), **gateway("workers", "3x10 2x3 3x10 0x40")},
    ),
    "HeadraceQueueNotDraining": Case(
        fires=old_entry("0x20 0+60x30", "0x20 5+1x30"),
        # Many jobs at once: the oldest gets older, but fewer and fewer wait.
        silent=old_entry("0x20 0+60x30", "0x20 5000-100x30"),
        labels={"lane": "bulk"},
    ),
    "HeadraceQueueSaturated": Case(
        fires=gateway("jobs_open", "90000x60"),
        silent=gateway("waiting_rows", "30000x60"),
        labels={"limit": "open_jobs"},
    ),
    "HeadraceBrokerMemory": Case(
        fires={
            **gateway("broker_memory_bytes", "450000000x60"),
            **gateway("broker_memory_limit_bytes", "512000000x60"),
        },
        # No limit, or less of it.
        silent={**gateway("broker_memory_bytes", "450000000x60"), **gateway("broker_memory_limit_bytes", "0x60")},
    ),
    "HeadraceResultsDropped": Case(
        fires=gateway("results_dropped_total", "0x20 5x40"),
        silent=gateway("results_dropped_total", "5x60"),
    ),
    "HeadraceRejecting": Case(
        fires={**requests("ok", "0+100x60"), **requests("rejected", "0+20x60")},
        silent={**requests("ok", "0+1000x60"), **requests("rejected", "0+20x60")},
        labels={"model": "iris", "lane": "interactive"},
    ),
    "HeadraceJobsUnaccounted": Case(
        fires={**gateway("jobs_accepted_total", "0+10x60"), **gateway("jobs_open", "0+10x20 0+10x30")},
        silent={
            **gateway("jobs_accepted_total", "0+10x60"),
            **gateway("jobs_open", "0+4x60"),
            **gateway("jobs_ended_total", "0+6x60", 'outcome="succeeded"'),
        },
    ),
    "HeadraceDeadLetters": Case(
        fires=gateway("dead_letters", "0x10 1x50"),
        # The entry was looked at and removed.
        silent=gateway("dead_letters", "0x10 1x5 0x50"),
    ),
    "HeadraceJobsRescued": Case(
        fires=gateway("jobs_reconciled_total", "0x25 3x30", 'action="republished"'),
        silent=gateway("jobs_reconciled_total", "0+5x60", 'action="waiting"'),
        labels={"action": "republished"},
    ),
    "HeadraceWorkerCrashes": Case(
        fires=worker("errors_total", "0x25 4x30", 'model="iris", version="1", code="worker_lost"'),
        silent=worker("errors_total", "0x5 4x60", 'model="iris", version="1", code="worker_lost"'),
        labels={"model": "iris", "version": "1"},
    ),
    "HeadraceWorkersStalled": Case(
        fires=gateway("workers_stalled_total", "0x25 1x30"),
        silent=gateway("workers_stalled_total", "1x60"),
        labels={},
    ),
    "HeadraceModelRefused": Case(
        # The series begins with the first refusal.
        fires=worker("model_loads_total", "_x25 1x30", 'model="wine", outcome="refused"'),
        silent=worker("model_loads_total", "1x60", 'model="wine", outcome="refused"'),
        labels={"model": "wine"},
    ),
    "HeadraceRowsRejected": Case(
        fires={**rows("ok", "0+90x60"), **rows("error", "0+10x60"), **errors("row_rejected", "0+10x60")},
        # Others failed through our fault.
        silent={**rows("ok", "0+90x60"), **rows("error", "0+10x60"), **errors("worker_lost", "0+10x60")},
        labels={"model": "iris", "version": "1"},
    ),
    "HeadraceModelVersionSkew": Case(
        fires={
            **worker("predictions_total", "0+60x90", 'model="iris", version="1", outcome="ok"'),
            **worker("predictions_total", "0+60x90", 'model="iris", version="2", outcome="ok"'),
        },
        # A promotion.
        silent={
            **worker("predictions_total", "0+60x30 1800x60", 'model="iris", version="1", outcome="ok"'),
            **worker("predictions_total", "0x30 0+60x60", 'model="iris", version="2", outcome="ok"'),
        },
        at="1h",
        labels={"model": "iris"},
    ),
    "HeadraceMetricsAbsent": Case(
        # The gRPC process does not stand in for the gateway.
        fires={f"up{{{GATEWAY}}}": "1x10 _x50", 'up{job="grpc", instance="grpc:9201"}': "1x60"},
        silent={f"up{{{WORKER}}}": "1x10 _x50", 'up{job="worker", instance="worker-2:9101"}': "1x60"},
        labels={"job": "gateway"},
    ),
    "HeadraceTargetDown": Case(
        fires={'up{job="worker", instance="worker-2:9101"}': "1x10 0x50"},
        silent={'up{job="worker", instance="worker-2:9101"}': "1x29 0 1x30"},
        labels={"job": "worker", "instance": "worker-2:9101"},
    ),
    "HeadraceScrapeSlow": Case(
        fires={f"scrape_duration_seconds{{{WORKER}}}": "3x60"},
        silent={'scrape_duration_seconds{job="celery-exporter", instance="celery-exporter:9808"}': "2.2x60"},
        labels={"job": "worker", "instance": "worker:9101"},
    ),
    "HeadraceSampleLimitNear": Case(
        fires={f"scrape_samples_scraped{{{WORKER}}}": "90000x60"},
        silent={f"scrape_samples_scraped{{{WORKER}}}": "70000x60"},
        labels={"job": "worker", "instance": "worker:9101"},
    ),
    "HeadraceGatewaysDisagree": Case(
        fires={'inference_workers{job="gateway", instance="gateway-2:8000"}': "3x60"},
        silent={'inference_workers{job="gateway", instance="gateway-2:8000"}': "1x60"},
    ),
    "HeadraceRulesFailing": Case(
        fires={'prometheus_rule_evaluation_failures_total{job="prometheus", rule_group="slo"}': "0x25 2x30"},
        silent={'prometheus_rule_evaluation_failures_total{job="prometheus", rule_group="slo"}': "2x60"},
        labels={"rule_group": "slo"},
    ),
}
