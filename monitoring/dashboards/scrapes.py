"""Panels of scrapes: targets that Prometheus reaches, duration and size."""

from grafana_foundation_sdk.models import dashboard as model

from monitoring.dashboards.colours import GREEN, RED
from monitoring.dashboards.layout import Row
from monitoring.dashboards.panels import Query, lines, number
from monitoring.dashboards.promql import INSTANCES, agreed, select
from monitoring.rules.alerts_platform import SAMPLE_LIMIT, SAMPLES_NEAR_LIMIT, SCRAPE_SLOW_SECONDS

JOBS = ("gateway", "worker", "celery-exporter", "prometheus")
TARGET = ("job", "instance")


def targets() -> model.Panel:
    """Return the number of processes of each kind."""
    return number(
        "Targets up",
        "Number of processes of each kind that Prometheus can scrape.",
        "none",
        # A job whose name is gone from DNS has no `up` at all, hence the zero.
        *(Query(f'sum(up{{job="{job}"}}) or vector(0)', job) for job in JOBS),
        steps=((0, RED), (1, GREEN)),
        names={"0": ("down", RED)},
    )


def scrapes_row() -> Row:
    """Return the row of each target."""
    return Row("Scrapes", 8, [(12, _up()), (12, _duration()), (12, _samples()), (12, _workers())])


def _up() -> model.Panel:
    return lines(
        "Up by target",
        "1: the last scrape succeeded. The line of a replica that was removed ends; that of one that died falls to 0.",
        "none",
        Query(agreed(select("up", INSTANCES), *TARGET), "{{job}} {{instance}}"),
    )


def _duration() -> model.Panel:
    return lines(
        "Scrape duration",
        "An alert fires at the line. celery-exporter always needs 2 s, and has a limit of its own.",
        "s",
        Query(agreed(select("scrape_duration_seconds", INSTANCES), *TARGET), "{{job}} {{instance}}"),
        limits=((SCRAPE_SLOW_SECONDS, RED),),
    )


def _samples() -> model.Panel:
    samples = agreed(select("scrape_samples_scraped", INSTANCES), *TARGET)
    return lines(
        "Share of the sample limit",
        f"Series of each target, as a share of the {SAMPLE_LIMIT} that Prometheus accepts. Beyond 100 % it drops the "
        "whole scrape and the target is down; an alert fires at the line.",
        "percentunit",
        Query(f"{samples} / {SAMPLE_LIMIT}", "{{job}} {{instance}}"),
        limits=((SAMPLES_NEAR_LIMIT, RED),),
    )


def _workers() -> model.Panel:
    return lines(
        "Workers by gateway",
        "Workers that each gateway sees. All read the same heartbeats: one that sees fewer hangs, or is connected to "
        "another Redis.",
        "short",
        Query(agreed(select("inference_workers", INSTANCES), "instance"), "{{instance}}"),
    )
