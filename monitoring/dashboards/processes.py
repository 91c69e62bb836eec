"""Panels of processes: their cost, uptime and release."""

from grafana_foundation_sdk.models import dashboard as model

from monitoring.dashboards.broker import memory as broker_memory
from monitoring.dashboards.colours import GREEN, YELLOW
from monitoring.dashboards.layout import Row
from monitoring.dashboards.panels import Column, Query, lines, listing, number
from monitoring.dashboards.promql import INSTANCES, OURS, agreed, rate, select, total

TARGET = ("job", "instance")
START = "process_start_time_seconds"
MAIN = "A worker's main process, without its pool children; of several gateway processes, the one that answered."


def releases() -> model.Panel:
    """Return the number of releases that run."""
    return number(
        "Releases",
        "Versions of Headrace among the running processes. Two while a deploy goes on, one otherwise.",
        "none",
        Query("count(count by (version) (inference_build_info))"),
        steps=((0, GREEN), (2, YELLOW)),
    )


def processes_row() -> Row:
    """Return the row of gateways, workers and the broker's memory."""
    return Row(
        "Processes",
        8,
        [(8, _memory()), (8, _cpu()), (8, _uptime()), (16, _builds()), (8, broker_memory())],
    )


def _memory() -> model.Panel:
    resident = agreed(select("process_resident_memory_bytes", OURS, INSTANCES), *TARGET)
    return lines("Process memory", MAIN, "bytes", Query(resident, "{{job}} {{instance}}"))


def _cpu() -> model.Panel:
    used = total(rate("process_cpu_seconds_total", OURS, INSTANCES), *TARGET)
    return lines(
        "Process CPU",
        f"In cores; a process can use one. {MAIN}",
        "none",
        Query(used, "{{job}} {{instance}}"),
    )


def _uptime() -> model.Panel:
    started = agreed(select(START, OURS, INSTANCES), *TARGET)
    return lines(
        "Uptime",
        "Time since the process started; it falls to 0 with every restart.",
        "s",
        Query(f"time() - {started}", "{{job}} {{instance}}"),
    )


def _builds() -> model.Panel:
    info = select("inference_build_info", INSTANCES)
    return listing(
        "Builds",
        "Release, Python and start of each process.",
        Query(f"count by (job, instance, version, python) ({info})", "processes"),
        Query(f"{agreed(select(START, OURS, INSTANCES), *TARGET)} * 1000", "started"),
        columns={
            "job": Column(),
            "instance": Column(),
            "version": Column(),
            "python": Column(),
            "started": Column(unit="dateTimeAsIso"),
        },
        hidden=("Value #A",),
    )
