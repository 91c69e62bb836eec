"""Scrapes: whom Prometheus reaches, how long it takes, and how much it gets."""

from grafana_foundation_sdk.models import dashboard as model

from monitoring.dashboards.layout import Row
from monitoring.dashboards.panels import GREEN, RED, Query, lines, number
from monitoring.dashboards.promql import INSTANCES, agreed, select
from monitoring.rules.alerts_platform import SAMPLE_LIMIT, SAMPLES_NEAR_LIMIT, SCRAPE_SLOW_SECONDS

JOBS = ("gateway", "worker", "celery-exporter", "prometheus")
TARGET = ("job", "instance")


def targets() -> model.Panel:
    """How many processes of each kind there are."""
    return number(
        "Targets up",
        "How many processes of each kind Prometheus can scrape.",
        "none",
        # A job whose name DNS no longer knows has no `up` at all, hence the zero.
        *(Query(f'sum(up{{job="{job}"}}) or vector(0)', job) for job in JOBS),
        steps=((0, RED), (1, GREEN)),
        names={"0": ("down", RED)},
    )


def scrapes_row() -> Row:
    """Of each target."""
    return Row("Scrapes", 8, [(12, _up()), (12, _duration()), (12, _samples()), (12, _workers())])


def _up() -> model.Panel:
    return lines(
        "Up by target",
        "1: the last scrape succeeded. A replica that was removed on purpose ends; one that died falls to 0.",
        "none",
        Query(agreed(select("up", INSTANCES), *TARGET), "{{job}} {{instance}}"),
    )


def _duration() -> model.Panel:
    return lines(
        "Scrape duration",
        "An alert fires at the line. celery-exporter needs 2 s always, and has a limit of its own.",
        "s",
        Query(agreed(select("scrape_duration_seconds", INSTANCES), *TARGET), "{{job}} {{instance}}"),
        limits=((SCRAPE_SLOW_SECONDS, RED),),
    )


def _samples() -> model.Panel:
    samples = agreed(select("scrape_samples_scraped", INSTANCES), *TARGET)
    return lines(
        "Series of the sample limit",
        f"How much each target exports of the {SAMPLE_LIMIT} series that are taken from it at most. Beyond 100 % "
        "the whole scrape is dropped and the target is down; an alert fires at the line.",
        "percentunit",
        Query(f"{samples} / {SAMPLE_LIMIT}", "{{job}} {{instance}}"),
        limits=((SAMPLES_NEAR_LIMIT, RED),),
    )


def _workers() -> model.Panel:
    return lines(
        "Workers by gateway",
        "How many workers each gateway sees. They read the same announcements: one that sees fewer hangs, or is "
        "connected to another Redis.",
        "short",
        Query(agreed(select("inference_workers", INSTANCES), "instance"), "{{instance}}"),
    )
