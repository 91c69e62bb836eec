"""Each alert fires when it should, is silent when it should be, and links to the runbook."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from monitoring.rules import __main__ as command
from monitoring.rules.alerts_platform import SAMPLE_LIMIT
from monitoring.rules.slo import JOB_START_SECONDS, LATENCY_SECONDS
from shared.observability.metric_names import LATENCY_BUCKETS_SECONDS, QUEUE_WAIT_BUCKETS_SECONDS
from tests.monitoring.alert_cases import CASES, IDLE, Case, Series, gateway
from tests.monitoring.queries import load_dashboards, rule_metric_names
from tests.monitoring.test_prometheus import CONFIGS, jobs
from tests.support.promtool import run_rules

ROOT = Path(__file__).parents[2]
ALERTS: dict[str, dict[str, Any]] = {
    rule["alert"]: rule
    for make in command.FILES.values()
    for group in make()["groups"]
    for rule in group["rules"]
    if "alert" in rule
}
OURS = {name: rule for name, rule in ALERTS.items() if name.startswith("Headrace")}
"""The alerts without those of drift, which have tests of their own, made from data."""

RUNBOOK = (ROOT / "docs" / "runbook.md").read_text("utf-8")

OF_PROMETHEUS = re.compile(r"up|scrape_\w+|prometheus_\w+|inference_\w+")

each_alert = pytest.mark.parametrize("name", ALERTS)


def firing(labels: Mapping[str, str] | None, **selected: str) -> dict[str, Any]:
    """Return a query of promtool for firing alerts: exactly one with these labels, or none."""
    matchers = ", ".join(f'{name}="{value}"' for name, value in {**selected, "alertstate": "firing"}.items())
    samples = [] if labels is None else [{"labels": _selector({**labels, "alertstate": "firing"}), "value": 1}]
    return {"expr": f"ALERTS{{{matchers}}}", "exp_samples": samples}


def _selector(labels: Mapping[str, str]) -> str:
    return f"ALERTS{{{', '.join(f'{name}={json.dumps(value)}' for name, value in labels.items())}}}"


def situation(name: str, series: Series, at: str, interval: str, *queries: dict[str, Any]) -> dict[str, Any]:
    """Return a test of promtool: the idle stack with other values for some of its series."""
    parsed = {_identity(text): (text, values) for text, values in {**IDLE, **series}.items()}
    return {
        "name": name,
        "interval": interval,
        "input_series": [{"series": text, "values": values} for text, values in parsed.values()],
        "promql_expr_test": [{**query, "eval_time": at} for query in queries],
    }


def _identity(series: str) -> tuple[str, frozenset[str]]:
    name, _, labels = series.partition("{")
    return name, frozenset(re.findall(r'\w+="[^"]*"', labels))


def run(tmp_path: Path, rule_files: list[Path], *tests: dict[str, Any]) -> None:
    run_rules(tmp_path, rule_files, tests)


@pytest.mark.parametrize("name", CASES)
def test_it_fires_and_is_silent(name: str, tmp_path: Path) -> None:
    case: Case = CASES[name]
    labels = {"alertname": name, "severity": OURS[name]["labels"]["severity"], **case.labels}
    [rule_file] = [path for path, text in command.render().items() if f"- alert: {name}\n" in text]
    run(
        tmp_path,
        [rule_file],
        situation("fires", case.fires, case.at, case.interval, firing(labels, alertname=name)),
        situation("is silent", case.silent, case.at, case.interval, firing(None, alertname=name)),
    )


def test_nothing_fires_in_an_idle_stack(tmp_path: Path) -> None:
    # Pending alerts do not matter: at the start, nothing has been scraped yet.
    run(
        tmp_path,
        list(command.render()),
        *(situation(f"idle after {at}", {}, at, "1m", firing(None)) for at in ("5m", "2h")),
    )


def test_jobs_whose_rows_are_refused_burn_no_budget(tmp_path: Path) -> None:
    def failing(rejected: str) -> Series:
        return {
            **gateway("jobs_ended_total", "0+90x90", 'outcome="succeeded"'),
            **gateway("jobs_ended_total", "0+10x90", 'outcome="failed"'),
            **gateway("jobs_rejected_total", rejected),
        }

    burning = {"alertname": "HeadraceErrorBudgetBurnFast", "severity": "critical", "slo": "jobs", "lane": "bulk"}
    run(
        tmp_path,
        [path for path in command.render() if path.name == "slo.yml"],
        situation("our fault", failing("0x90"), "90m", "1m", firing(burning, slo="jobs", severity="critical")),
        situation("the rows' fault", failing("0+10x90"), "90m", "1m", firing(None, slo="jobs")),
    )


def test_every_alert_has_its_cases() -> None:
    assert set(OURS) == set(CASES)


@each_alert
def test_it_has_a_section_in_the_runbook(name: str) -> None:
    assert ALERTS[name]["annotations"]["runbook_url"] == f"docs/runbook.md#{name.lower()}"
    section = re.search(rf"^### {name}\n(.*?)(?=^##|\Z)", RUNBOOK, re.DOTALL | re.MULTILINE)
    assert section, f"docs/runbook.md has no section {name}"
    for part in ("**Means.**", "**Look.**", "**Fix.**"):
        assert part in section[1], part
    assert "```sh" in section[1], "commands to look with"


def test_the_runbook_has_no_other_sections() -> None:
    assert set(re.findall(r"^### (\w+)$", RUNBOOK, re.MULTILINE)) == set(ALERTS)


@each_alert
def test_it_names_a_dashboard(name: str) -> None:
    uids = {dashboard["uid"] for dashboard in load_dashboards().values()}
    assert ALERTS[name]["annotations"]["dashboard"] in uids


@each_alert
def test_its_chapter_leads_to_the_dashboard(name: str) -> None:
    [chapter] = [chapter for chapter in re.split(r"^## ", RUNBOOK, flags=re.MULTILINE) if f"\n### {name}\n" in chapter]
    assert f"/d/{ALERTS[name]['annotations']['dashboard']}>" in chapter.split("\n### ")[0]


@each_alert
def test_it_shows_values(name: str) -> None:
    assert re.search(r"\$(value|labels)", ALERTS[name]["annotations"]["description"])


def test_rules_read_metrics_of_ours_and_of_prometheus() -> None:
    for name in rule_metric_names():
        assert OF_PROMETHEUS.fullmatch(name), name


def test_objectives_are_bounds_of_buckets() -> None:
    """The rules need the notation of client_python: Prometheus 3 reads `1` as `1.0`, and Prometheus 2 does not."""
    assert LATENCY_SECONDS in map(str, LATENCY_BUCKETS_SECONDS)
    assert JOB_START_SECONDS in map(str, QUEUE_WAIT_BUCKETS_SECONDS)


@pytest.mark.parametrize("config", CONFIGS)
def test_limits_are_those_of_the_configuration(config: str) -> None:
    assert {job["sample_limit"] for job in jobs(config).values()} == {SAMPLE_LIMIT}
