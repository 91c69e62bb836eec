"""Alerts about the monitoring itself: an alert without data never fires, so missing data has an alert of its own."""

from typing import Any

from monitoring.rules.forms import INTERVAL, alert, group

SAMPLE_LIMIT = 100_000
"""The limit of every job in prometheus.yml: a pool child makes 20,000 series of versions at most, others other ones."""

SAMPLES_NEAR_LIMIT = 0.8
SCRAPE_SLOW_SECONDS = 2

ABSENT = "\nor\n".join(
    f'label_replace(absent(up{{job="{job}"}} == 1), "job", "{job}", "", "")' for job in ("gateway", "worker")
)


def rules() -> dict[str, Any]:
    """Return the alerts."""
    return {
        "groups": [
            group(
                "alerts-platform",
                alert(
                    "HeadraceMetricsAbsent",
                    # A replica that is gone from DNS leaves no `up` of 0 behind.
                    ABSENT,
                    wait="3m",
                    severity="critical",
                    dashboard="headrace-platform",
                    summary="No {{ $labels.job }} can be scraped",
                    description="Prometheus has no data from any {{ $labels.job }}: it is gone, or can't be reached. "
                    "Alerts that need its metrics can't fire.",
                ),
                alert(
                    "HeadraceTargetDown",
                    "up == 0",
                    wait="2m",
                    severity="warning",
                    dashboard="headrace-platform",
                    summary="{{ $labels.job }} at {{ $labels.instance }} can't be scraped",
                    description="Scrapes of {{ $labels.instance }} have failed for 2 minutes.",
                ),
                alert(
                    "HeadraceScrapeSlow",
                    # celery-exporter asks all workers twice and waits a second for each answer.
                    f"""
scrape_duration_seconds{{job!="celery-exporter"}} > {SCRAPE_SLOW_SECONDS}
or
scrape_duration_seconds{{job="celery-exporter"}} > 5
""",
                    wait="5m",
                    severity="warning",
                    dashboard="headrace-platform",
                    summary="Scrapes of {{ $labels.job }} at {{ $labels.instance }} are slow",
                    description="The last scrape took {{ $value | humanizeDuration }}.",
                ),
                alert(
                    "HeadraceSampleLimitNear",
                    f"scrape_samples_scraped / {SAMPLE_LIMIT} > {SAMPLES_NEAR_LIMIT}",
                    wait="5m",
                    severity="warning",
                    dashboard="headrace-platform",
                    summary="{{ $labels.job }} at {{ $labels.instance }} is close to the sample limit",
                    description=f"It exports {{{{ $value | humanizePercentage }}}} of {SAMPLE_LIMIT} series. Beyond "
                    "the limit Prometheus drops the whole scrape, and the target shows as down.",
                ),
                alert(
                    "HeadraceGatewaysDisagree",
                    "max(inference_workers) - min(inference_workers) > 0",
                    wait="2m",
                    severity="warning",
                    dashboard="headrace-platform",
                    summary="A gateway does not see all workers",
                    description="One gateway sees {{ $value }} workers fewer than another: it reads stale "
                    "heartbeats, or another Redis.",
                ),
                alert(
                    "HeadraceRulesFailing",
                    "sum by (rule_group) (increase(prometheus_rule_evaluation_failures_total[15m])) > 0",
                    wait="0s",
                    severity="warning",
                    dashboard="headrace-platform",
                    summary="Prometheus can't evaluate its rules",
                    description="About {{ $value | humanize }} evaluations of {{ $labels.rule_group }} failed in 15 "
                    "minutes. Its alerts are not reliable.",
                ),
                interval=INTERVAL,
            )
        ]
    }
