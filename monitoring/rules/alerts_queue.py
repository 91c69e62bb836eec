"""Alerts about the queue: broker, workers, backlog, limits, and jobs that could be lost.

Every gateway reads the same numbers from Redis, so rules take the maximum over gateways. While Redis does not answer
they export zeros, so a rule that compares two moments requires that Redis answered at both.
"""

from typing import Any

from monitoring.rules.forms import INTERVAL, Rule, alert, grew, group, record

SATURATION = "limit:inference_saturation:ratio"
SATURATED = 0.8
STUCK_SECONDS = 30
MEMORY_HIGH = 0.8

MEMORY_SHARE = "max(inference_broker_memory_bytes / (inference_broker_memory_limit_bytes > 0))"
"""Used share of Redis' memory; nothing without a limit."""

UNACCOUNTED_JOBS = """\
max(abs(
  inference_jobs_accepted_total
  - on (job, instance) sum by (job, instance) (inference_jobs_ended_total)
  - on (job, instance) inference_jobs_open
))"""
"""The three numbers of one gateway are compared, because it read them at the same moment."""

NOT_DRAINING = f"""
max by (lane) (inference_queue_oldest_job_age_seconds) > {STUCK_SECONDS}
and max by (lane) (deriv(inference_queue_oldest_job_age_seconds[2m])) > 0.95
and max by (lane) (delta(inference_queue_depth[2m])) >= 0
and on () min(min_over_time(inference_broker_up[2m])) == 1
"""
"""The oldest entry ages as fast as time passes, so no worker takes it, and the queue does not get shorter."""

WORKERS_MISSING = "max(inference_workers_expected) - (max(inference_workers) >= 1) > 0"
"""A dead replica is gone from DNS, so no `up` of 0 tells of it; without any worker, HeadraceWorkersAbsent fires."""

REJECTED = 'sum by (model, lane) (increase(inference_requests_total{outcome="rejected"}[5m]))'


def rules() -> dict[str, Any]:
    """Return saturation as a ratio, then the alerts."""
    return {
        "groups": [
            group("saturation", *_saturation(), interval=INTERVAL),
            group("alerts-queue", *_parts(), *_backlog(), *_memory(), *_losses(), interval=INTERVAL),
        ]
    }


def _saturation() -> list[Rule]:
    return [
        record(
            SATURATION, "max(inference_jobs_open / on (job, instance) inference_jobs_open_limit)", limit="open_jobs"
        ),
        # Each gateway has a limit of its own.
        record(
            SATURATION,
            "max(inference_waiting_rows / on (job, instance) inference_waiting_rows_limit)",
            limit="waiting_rows",
        ),
    ]


def _parts() -> list[Rule]:
    return [
        alert(
            "HeadraceBrokerDown",
            "inference_broker_up == 0",
            wait="1m",
            severity="critical",
            dashboard="headrace-queue",
            summary="{{ $labels.instance }} can't reach Redis",
            description="The gateway {{ $labels.instance }} gets no answer from Redis: every prediction and submission "
            "there gets 503. Accepted jobs are safe, and go on when Redis is back.",
        ),
        alert(
            "HeadraceWorkersAbsent",
            "max(inference_workers) < 1 and on () max(inference_broker_up) == 1",
            wait="1m",
            severity="critical",
            dashboard="headrace-queue",
            summary="There is no worker",
            description="{{ $value }} workers send heartbeats through Redis. Predictions end as 503 no_worker at their "
            "deadline; jobs are accepted and wait.",
        ),
        alert(
            "HeadraceWorkersMissing",
            WORKERS_MISSING,
            wait="5m",
            severity="warning",
            dashboard="headrace-queue",
            summary="Fewer workers live than should",
            description="{{ $value }} of the workers that WORKERS announces send no heartbeats through Redis. "
            "The others do their work.",
        ),
    ]


def _backlog() -> list[Rule]:
    return [
        alert(
            "HeadraceQueueNotDraining",
            NOT_DRAINING,
            wait="1m",
            severity="critical",
            dashboard="headrace-queue",
            summary="No worker takes the oldest entry of the {{ $labels.lane }} queue",
            description="It has waited for {{ $value | humanizeDuration }}, and the queue does not get shorter.",
        ),
        alert(
            "HeadraceQueueSaturated",
            f"{SATURATION} > {SATURATED}",
            wait="2m",
            severity="warning",
            dashboard="headrace-queue",
            summary="{{ $labels.limit }} is close to its limit",
            description="{{ $value | humanizePercentage }} of the limit is used. At 100 % callers get 503.",
        ),
        alert(
            "HeadraceRejecting",
            f"""
{REJECTED} / sum by (model, lane) (increase(inference_requests_total[5m])) > 0.05
and {REJECTED} >= 10
""",
            wait="2m",
            severity="warning",
            dashboard="headrace-overview",
            summary="Requests for {{ $labels.model }} ({{ $labels.lane }}) are rejected",
            description="{{ $value | humanizePercentage }} of the requests of the last 5 minutes got 503.",
        ),
    ]


def _memory() -> list[Rule]:
    return [
        alert(
            "HeadraceBrokerMemory",
            f"{MEMORY_SHARE} > {MEMORY_HIGH}",
            wait="5m",
            severity="warning",
            dashboard="headrace-queue",
            summary="Redis' memory is nearly used up",
            description="{{ $value | humanizePercentage }} of it is used. From 90 % on, submissions get 503 until "
            "records of ended jobs age out.",
        ),
        alert(
            "HeadraceResultsDropped",
            "max(increase(inference_results_dropped_total[15m])) > 0",
            wait="0s",
            severity="warning",
            dashboard="headrace-queue",
            summary="Results of jobs were dropped before their time",
            description="About {{ $value | humanize }} results of the last 15 minutes made room for newer ones. "
            "Callers who come for them get 410.",
        ),
    ]


def _losses() -> list[Rule]:
    return [
        alert(
            "HeadraceJobsUnaccounted",
            f"{UNACCOUNTED_JOBS} > 0",
            wait="2m",
            severity="critical",
            dashboard="headrace-queue",
            summary="Accepted jobs are missing, or ended twice",
            description="Accepted − ended − open must be 0 at every moment, and is {{ $value }} jobs away from it.",
        ),
        alert(
            "HeadraceDeadLetters",
            # Not its growth: it fires until the entries are removed, and 1000 of them are kept at most.
            "max(inference_dead_letters) > 0",
            wait="1m",
            severity="warning",
            dashboard="headrace-queue",
            summary="Entries of the queue, or damaged data, were put aside",
            description="There are {{ $value }} dead letters: entries that no worker understands, or damaged data.",
        ),
        alert(
            "HeadraceJobsRescued",
            grew('inference_jobs_reconciled_total{action=~"republished|worker_lost"}', "15m", "action"),
            wait="0s",
            severity="warning",
            dashboard="headrace-queue",
            summary="Jobs lost their queue entry or their worker ({{ $labels.action }})",
            description="In 15 minutes, the reconciler dealt with about {{ $value | humanize }} such jobs: republished "
            "ones run again, worker_lost ones have failed for good.",
        ),
        alert(
            "HeadraceWorkerCrashes",
            grew('inference_errors_total{code="worker_lost"}', "15m", "model", "version"),
            wait="0s",
            severity="warning",
            dashboard="headrace-queue",
            summary="Pool children died while they computed {{ $labels.model }} {{ $labels.version }}",
            description="About {{ $value | humanize }} rows of the last 15 minutes were lost with their process.",
        ),
        alert(
            "HeadraceWorkersStalled",
            "max(increase(inference_workers_stalled_total[15m])) > 0",
            wait="0s",
            severity="warning",
            dashboard="headrace-queue",
            summary="Workers stopped consuming, and ended themselves",
            description="About {{ $value | humanize }} workers in 15 minutes took nothing from the queue although "
            "they could. Their supervisor starts new ones; the batches that they had taken run again.",
        ),
    ]
