"""Service level objectives: promises to callers, the error budget that is left, and how fast it is spent.

Each objective is a rate of events and a rate of errors among them. The rest is the same for all of them:
ratios over several windows, burn rates (1 spends the budget in exactly 30 days), and the alerts of table 5-8 of
Google's SRE workbook, chapter "Alerting on SLOs". Longer windows add up the recorded 5-minute rates, so that they
weigh requests and not minutes, and cost a few thousand samples instead of millions.
"""

from dataclasses import dataclass
from typing import Any

from monitoring.rules.forms import Rule, alert, group, record

INTERVAL_SECONDS = 30
"""Time between two recordings of a rate, for which one of its samples stands."""

WINDOWS = ("5m", "30m", "1h", "6h", "3d")

ERRORS_AT_LEAST = 10
"""Errors in the long window that an alert requires: at low traffic, a single one would be a large share."""

LATENCY_SECONDS = "0.25"
"""Objective for an answer, queue included; a bound of LATENCY_BUCKETS_SECONDS as written in the label."""

JOB_START_SECONDS = "300.0"
"""Objective for the start of a job; a bound of QUEUE_WAIT_BUCKETS_SECONDS as written in the label."""


@dataclass(frozen=True)
class Objective:
    """`ratio` of the `events` shall not be `errors`; both are rates over 5 minutes."""

    slo: str
    ratio: float
    events: str
    errors: str


def _slower(histogram: str, bound: str, by: str, *matchers: str) -> tuple[str, str]:
    """Return the rates of all observations of a histogram, and of those above a bound."""
    of_all = f"sum by ({by}) (rate({histogram}_count{_braces(*matchers)}[5m]))"
    quick = f"""sum by ({by}) (rate({histogram}_bucket{_braces(*matchers, f'le="{bound}"')}[5m]))"""
    return of_all, f"clamp_min({of_all} - {quick}, 0)"


def _braces(*matchers: str) -> str:
    return f"{{{', '.join(matchers)}}}" if matchers else ""


def _jobs(outcomes: str, but: str = "") -> str:
    # Every gateway reads the same counters from Redis.
    ended = f'sum by (instance) (rate(inference_jobs_ended_total{{outcome=~"{outcomes}"}}[5m]))'
    if but:
        ended = f"clamp_min({ended} - sum by (instance) (rate({but}[5m])), 0)"
    return f'label_replace(max({ended}), "lane", "bulk", "", "")'


OBJECTIVES = (
    # An invalid request is no error of the service, nor is a row that the model refuses.
    Objective(
        "availability",
        0.995,
        "sum by (model, lane) (rate(inference_requests_total[5m]))",
        'sum by (model, lane) (rate(inference_requests_total{outcome=~"failed|rejected|timeout"}[5m]))',
    ),
    Objective("latency", 0.99, *_slower("inference_request_duration_seconds", LATENCY_SECONDS, "model, lane")),
    # Cancelled jobs ended as their caller wanted. Rows that the model refuses are an error of their caller.
    Objective(
        "jobs",
        0.995,
        _jobs("succeeded|failed|expired"),
        _jobs("failed|expired", but="inference_jobs_rejected_total"),
    ),
    Objective(
        "job_start", 0.99, *_slower("inference_queue_wait_seconds", JOB_START_SECONDS, "lane", 'lane="bulk"')
    ),
)  # fmt: skip


def rules() -> dict[str, Any]:
    """Return the rules of all objectives, each after those that it needs."""
    recorded: list[Rule] = []
    for objective in OBJECTIVES:
        recorded += [
            record("slo:inference_objective:ratio", f"vector({objective.ratio})", slo=objective.slo),
            record("slo:inference_events:rate5m", objective.events, slo=objective.slo),
            record("slo:inference_errors:rate5m", objective.errors, slo=objective.slo),
        ]
    for window in WINDOWS:
        recorded += [
            record(f"slo:inference_errors:ratio_rate{window}", _ratio(window)),
            record(f"slo:inference_burn:rate{window}", _burn(f"slo:inference_errors:ratio_rate{window}")),
        ]
    budget = [
        record("slo:inference_errors:ratio_rate30d", _ratio("30d")),
        record("slo:inference_budget_left:ratio30d", f"1 - {_burn('slo:inference_errors:ratio_rate30d')}"),
    ]
    return {
        "groups": [
            group("slo", *recorded, _fast(), _slow(), interval=f"{INTERVAL_SECONDS}s"),
            group("slo-budget", *budget, interval="5m"),
        ]
    }


def _ratio(window: str) -> str:
    """Return the share of errors; 0 without traffic, because the divisor is never 0."""
    if window == "5m":
        return "slo:inference_errors:rate5m / clamp_min(slo:inference_events:rate5m, 1e-9)"
    errors, events = (f"sum_over_time(slo:inference_{what}:rate5m[{window}])" for what in ("errors", "events"))
    return f"{errors} / clamp_min({events}, 1e-9)"


def _burn(ratio: str) -> str:
    return f"{ratio} / on (slo) group_left () (1 - slo:inference_objective:ratio)"


def _burning(rate: float, long: str, short: str) -> str:
    """Return the burn rate if it is above `rate` over both windows: for long, and still."""
    errors = f"sum_over_time(slo:inference_errors:rate5m[{long}]) * {INTERVAL_SECONDS}"
    return f"""\
(slo:inference_burn:rate{long} > {rate:g}
  and slo:inference_burn:rate{short} > {rate:g}
  and {errors} >= {ERRORS_AT_LEAST})"""


WHICH = "{{ $labels.slo }}{{ with $labels.model }} of {{ . }}{{ end }} ({{ $labels.lane }})"


def _fast() -> Rule:
    return alert(
        "HeadraceErrorBudgetBurnFast",
        # 2 % of the budget in an hour, or 5 % in six.
        f"{_burning(14.4, '1h', '5m')}\nor\n{_burning(6, '6h', '30m')}",
        wait="2m",
        severity="critical",
        dashboard="headrace-overview",
        summary=f"The error budget burns fast: {WHICH}",
        description="The error budget of 30 days is being spent {{ $value | humanize }} times too fast: "
        "a rate of 14.4 uses 2 % of it in an hour, a rate of 6 uses 5 % in six hours.",
    )


def _slow() -> Rule:
    return alert(
        "HeadraceErrorBudgetBurnSlow",
        # 10 % of the budget in three days.
        _burning(1, "3d", "6h"),
        wait="15m",
        severity="warning",
        dashboard="headrace-overview",
        summary=f"More errors than the objective allows: {WHICH}",
        description="Over three days, and still, there are {{ $value | humanize }} times as many errors as allowed.",
    )
