"""What there is to be seen, and where: links to what listens beside the gateway."""

import math
from urllib.parse import quote

import httpx

from demo.model import Model
from demo.progress import clock
from demo.scenario import BURST_SECONDS, Scenario

TIMEOUT_SECONDS = 2.0


async def dashboards(grafana: str) -> dict[str, str]:
    """Title -> link of each dashboard that Grafana has; empty if nobody listens."""
    found = await _answer(f"{grafana}/api/search?type=dash-db")
    try:
        return {each["title"]: f"{grafana}{each['url']}" for each in found.json()} if found else {}
    except (ValueError, KeyError, TypeError):
        return {}


async def graphs(prometheus: str, model: Model, drifting: str | None) -> dict[str, str]:
    """Title -> link to Prometheus' own pages, for who has no Grafana; empty if nobody listens."""
    return graph_links(prometheus, model, drifting) if await _answer(f"{prometheus}/-/ready") else {}


def graph_links(prometheus: str, model: Model, drifting: str | None) -> dict[str, str]:
    """The links, whoever listens."""
    queries = {
        "Requests": "sum by (lane, outcome) (rate(inference_requests_total[1m]))",
        "Queue wait": "histogram_quantile(0.95, sum by (lane, le) (rate(inference_queue_wait_seconds_bucket[1m])))",
    }
    if drifting is not None:
        labels = f'model="{model.name}", feature="{_escaped(drifting)}"'
        queries["Drift (PSI)"] = f"feature:inference_feature:psi15m{{{labels}}}"
    links = {
        title: f"{prometheus}/graph?g0.expr={quote(query)}&g0.tab=0&g0.range_input=15m"
        for title, query in queries.items()
    }
    return {**links, "Alerts": f"{prometheus}/alerts"}


def timetable(scenario: Scenario, drifting: str | None, seconds: float) -> list[tuple[str, str]]:
    """When, and what then happens and where it shows."""
    entries = [(0.0, "rows as in training: request rates, latencies and predictions leave zero")]
    if scenario.burst_every:
        bursts = f"every {scenario.burst_every:g} s a burst of {BURST_SECONDS:g} s"
        entries.append((scenario.burst_every / 2, f"{bursts}: rows wait, and some calls are rejected"))
    if drifting is not None:
        entries.append((scenario.drift_after, f"{drifting} drifts: its PSI rises, within a minute"))
    if not math.isinf(seconds):
        entries.append((seconds, "the end"))
    return [(clock(at), text) for at, text in sorted(entries) if at <= seconds]


def _escaped(value: str) -> str:
    """As it stands between the quotes of a PromQL string."""
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


async def _answer(url: str) -> httpx.Response | None:
    try:
        async with httpx.AsyncClient(timeout=TIMEOUT_SECONDS, trust_env=False) as client:
            answer = await client.get(url)
            return answer if answer.status_code == 200 else None
    except httpx.TransportError:
        return None
