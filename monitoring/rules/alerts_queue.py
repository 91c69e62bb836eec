"""Alerts of the queue: broker, workers, backlog, limits, and jobs that could be lost.

What every gateway reads from Redis is taken as the maximum over gateways. While Redis does not answer they export
zeros, so what compares two moments asks that it answered at both.
"""

from typing import Any

from monitoring.rules.forms import INTERVAL, Rule, alert, grew, group, record

SATURATION = "limit:inference_saturation:ratio"
SATURATED = 0.8
STUCK_SECONDS = 30

UNACCOUNTED_JOBS = """\
max(abs(
  inference_jobs_accepted_total
  - on (job, instance) sum by (job, instance) (inference_jobs_ended_total)
  - on (job, instance) inference_jobs_open
))"""
"""Each gateway's own three numbers are compared, because those were read in the same moment."""

NOT_DRAINING = f"""
max by (lane) (inference_queue_oldest_job_age_seconds) > {STUCK_SECONDS}
and max by (lane) (deriv(inference_queue_oldest_job_age_seconds[2m])) > 0.95
and max by (lane) (delta(inference_queue_depth[2m])) >= 0
and on () min(min_over_time(inference_broker_up[2m])) == 1
"""
"""The oldest entry ages as fast as time goes by, so nobody takes it, and the queue is not getting shorter."""

REJECTED = 'sum by (model, lane) (increase(inference_requests_total{outcome="rejected"}[5m]))'


def rules() -> dict[str, Any]:
    """Saturation as a ratio, then the alerts."""
    return {
        "groups": [
            group("saturation", *_saturation(), interval=INTERVAL),
            group("alerts-queue", *_parts(), *_backlog(), *_losses(), interval=INTERVAL),
        ]
    }


def _saturation() -> list[Rule]:
    return [
        record(
            SATURATION, "max(inference_jobs_open / on (job, instance) inference_jobs_open_limit)", limit="open_jobs"
        ),
        # Each gateway has its own.
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
            summary="{{ $labels.instance }} does not reach Redis",
            description="The gateway {{ $labels.instance }} gets no answer from Redis: every prediction and submission "
            "there gets 503. Accepted jobs are safe in it, and go on when it is back.",
        ),
        alert(
            "HeadraceWorkersAbsent",
            "max(inference_workers) < 1 and on () max(inference_broker_up) == 1",
            wait="1m",
            severity="critical",
            dashboard="headrace-queue",
            summary="No worker takes anything from the queue",
            description="{{ $value }} workers announce themselves through Redis. Predictions end as 503 no_worker at "
            "their deadline; jobs are accepted and wait.",
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
            summary="Nobody takes the oldest task of the {{ $labels.lane }} queue",
            description="It has waited for {{ $value | humanizeDuration }}, and the queue does not get shorter.",
        ),
        alert(
            "HeadraceQueueSaturated",
            f"{SATURATION} > {SATURATED}",
            wait="2m",
            severity="warning",
            dashboard="headrace-queue",
            summary="Almost at the limit of {{ $labels.limit }}",
            description="{{ $value | humanizePercentage }} of what is accepted at most. At 100 % callers get 503.",
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
            summary="Requests for {{ $labels.model }} ({{ $labels.lane }}) are turned away",
            description="{{ $value | humanizePercentage }} of the requests of the last 5 minutes got 503.",
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
            description="Accepted − ended − open is {{ $value }} jobs from 0, where it is at every moment.",
        ),
        alert(
            "HeadraceDeadLetters",
            # Not its growth: it stays until somebody has looked, and 1000 of them are kept at most.
            "max(inference_dead_letters) > 0",
            wait="1m",
            severity="warning",
            dashboard="headrace-queue",
            summary="Something that is no task was in the queue",
            description="{{ $value }} queue entries that no worker understands were put aside.",
        ),
        alert(
            "HeadraceJobsRescued",
            grew('inference_jobs_reconciled_total{action=~"republished|worker_lost"}', "15m", "action"),
            wait="0s",
            severity="warning",
            dashboard="headrace-queue",
            summary="Jobs lost their message or their worker ({{ $labels.action }})",
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
            summary="Workers had stopped consuming, and ended themselves",
            description="About {{ $value | humanize }} workers in 15 minutes took nothing from the queue although "
            "they could. Whoever supervises them starts new ones; what they had in hand runs again.",
        ),
    ]
