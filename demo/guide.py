"""Advice for the person who runs the demo: what will happen when, which alerts to expect, and where to look."""

import argparse
import json
import math
from collections.abc import Iterable
from urllib.parse import quote

import httpx

from demo.report import clock
from demo.rows import Model
from demo.traffic import BURST_SECONDS, Scenario

ALERT_SECONDS = 600.0
"""Time that drift must last before its alert fires."""

EVALUATED_SECONDS = 120.0
"""Time until Prometheus has seen a drift, and from the end of ALERT_SECONDS until the alert shows."""

ENOUGH_MINUTES = 15
"""Duration that the command recommends to a person who wants to see the alert."""

BURN_SECONDS = 180.0
"""Time after which errors may have spent the error budget fast enough, and for long enough, for an alert."""


async def introduction(options: argparse.Namespace, model: Model, scenario: Scenario, drifting: str | None) -> str:
    """Return what happens when, and where it is seen."""
    ahead = [(clock(at), text) for at, text in sorted(_timetable(options, scenario, drifting))]
    rows = [*ahead, ("", ""), *(await _links(options, model, drifting)).items()]
    head = (
        f"{options.rate:g} calls per second to {model.name} {model.version} on {options.url}: "
        f"{options.errors:.0%} wrong on purpose, {options.jobs:.0%} jobs. Ctrl-C ends it."
    )
    return "\n".join([head, "", *_aligned(rows), *_too_short(options, scenario, drifting), ""])


async def conclusion(options: argparse.Namespace, model: Model, drifting: str | None) -> str:
    """Return where to look now, and the alerts of this moment."""
    rows = {**await _links(options, model, drifting), **await _alerts_now(options.prometheus)}
    return "\n".join(["Look at:", *_aligned(rows.items())])


def _timetable(options: argparse.Namespace, scenario: Scenario, drifting: str | None) -> Iterable[tuple[float, str]]:
    """Yield what happens within the duration, each with its time in seconds since the start."""
    found = [(0.0, "rows as in training: request rates, latencies and predictions leave zero")]
    if scenario.burst_every:
        every = f"every {scenario.burst_every:g} s a burst of {BURST_SECONDS:g} s"
        found.append((scenario.burst_every / 2, f"{every}: rows wait, and some calls are rejected"))
    if drifting is not None:
        found.append((scenario.drift_after, f"{drifting} drifts: its PSI rises, within a minute"))
        found.append((_alert_at(scenario), "the alert FeatureDrift fires about now: it waits for ten minutes of drift"))
    if scenario.burst_every or options.errors:
        text = (
            "the alert HeadraceErrorBudgetBurnFast may fire: calls that are rejected or late on purpose count as "
            "errors (--bursts 0 --errors 0 sends none)"
        )
        found.append((BURN_SECONDS, text))
    end = options.seconds or math.inf
    yield from ((at, text) for at, text in found if at <= end)
    if options.seconds:
        yield options.seconds, "the end"


def _alert_at(scenario: Scenario) -> float:
    return scenario.drift_after + ALERT_SECONDS + EVALUATED_SECONDS


def _too_short(options: argparse.Namespace, scenario: Scenario, drifting: str | None) -> list[str]:
    """Return a hint if the run ends before the alert fires, and else nothing."""
    if drifting is None or not 0 < options.seconds < _alert_at(scenario):
        return []
    return ["", f"Alerts about drift need ten minutes of it; this run ends before. Longer: --minutes {ENOUGH_MINUTES}"]


async def _links(options: argparse.Namespace, model: Model, drifting: str | None) -> dict[str, str]:
    """Return title and link of all that shows the traffic, or a line that says that nothing does."""
    missing = f"neither Grafana ({options.grafana}) nor Prometheus ({options.prometheus}) answers: no graphs to look at"
    return await _dashboards(options.grafana) or await _graphs(options.prometheus, model, drifting) or {"": missing}


async def _dashboards(grafana: str) -> dict[str, str]:
    """Return title and link of each of Grafana's dashboards; none if nothing listens."""
    found = await _answer(f"{grafana}/api/search?type=dash-db")
    try:
        return {each["title"]: f"{grafana}{each['url']}" for each in found.json()} if found else {}
    except (ValueError, KeyError, TypeError):
        return {}


async def _graphs(prometheus: str, model: Model, drifting: str | None) -> dict[str, str]:
    """Return title and link of graphs on Prometheus' own pages; none if nothing listens."""
    if not await _answer(f"{prometheus}/-/ready"):
        return {}
    queries = {
        "Requests": "sum by (lane, outcome) (rate(inference_requests_total[1m]))",
        "Queue wait": "histogram_quantile(0.95, sum by (lane, le) (rate(inference_queue_wait_seconds_bucket[1m])))",
    }
    if drifting is not None:
        # PromQL and JSON escape the same characters of a string.
        feature = json.dumps(drifting, ensure_ascii=False)
        queries["Drift (PSI)"] = f'feature:inference_feature:psi15m{{model="{model.name}", feature={feature}}}'
    links = {
        title: f"{prometheus}/graph?g0.expr={quote(query)}&g0.tab=0&g0.range_input=15m"
        for title, query in queries.items()
    }
    return {**links, "Alerts": f"{prometheus}/alerts"}


async def _alerts_now(prometheus: str) -> dict[str, str]:
    """Return the firing and pending alerts in one line; nothing if no Prometheus listens."""
    found = await _answer(f"{prometheus}/api/v1/alerts")
    try:
        alerts = found.json()["data"]["alerts"] if found else None
        states = sorted({f"{each['labels']['alertname']} {each['state']}" for each in alerts or ()})
    except (ValueError, KeyError, TypeError):
        return {}
    return {} if alerts is None else {"Alerts now": ", ".join(states) or "none"}


async def _answer(url: str) -> httpx.Response | None:
    try:
        async with httpx.AsyncClient(timeout=2, trust_env=False) as client:
            answer = await client.get(url)
            return answer if answer.status_code == 200 else None
    except httpx.TransportError:
        return None


def _aligned(rows: Iterable[tuple[str, str]]) -> list[str]:
    rows = list(rows)
    width = max(len(left) for left, _ in rows)
    return [f"  {left:<{width}}  {right}".rstrip() for left, right in rows]
