"""`make demo`: find the stack, say what will be seen and where, send traffic, and sum up."""

import argparse
import asyncio
import json
import math
import os
import signal
import sys
from collections.abc import Sequence
from urllib.parse import quote

import httpx

from demo.load import Load, connect
from demo.report import Progress, clock
from demo.rows import Model, NotServed, Sampler, fetch
from demo.traffic import BURST_SECONDS, Scenario, Traffic


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m demo",
        description="Sends traffic to a running stack, so that every dashboard moves: rows as the model saw them in "
        "training, then drifted ones, jobs, wrong calls, and bursts that are too much. Ctrl-C ends it.",
    )

    def option(group: argparse._ArgumentGroup, name: str, default: object, text: str, **more: object) -> None:
        group.add_argument(name, default=default, help=f"{text} (%(default)s)", **more)  # type: ignore[arg-type]

    where = parser.add_argument_group("where to")
    option(where, "--url", _local("GATEWAY_PORT", 8000), "the gateway")
    where.add_argument("--model", metavar="NAME", help="a model that it serves (its default one)")
    option(where, "--prometheus", _local("PROMETHEUS_PORT", 9090), "for links", metavar="URL")
    option(where, "--grafana", _local("GRAFANA_PORT", 3000), "for links", metavar="URL")
    how = parser.add_argument_group("how much")
    option(how, "--rate", 40.0, "calls per second, without bursts", type=_positive)
    option(how, "--seconds", 240.0, "duration; 0: until Ctrl-C", type=_amount)
    option(how, "--errors", 0.05, "share of wrong calls", type=_share, metavar="SHARE")
    option(how, "--jobs", 0.15, "share of jobs", type=_share, metavar="SHARE")
    every = "from one burst to the next; 0: no bursts"
    option(how, "--bursts", Scenario.burst_every, every, type=_amount, metavar="SECONDS")
    option(how, "--seed", 1, "the same seed gives the same rows", type=int)
    drift = parser.add_argument_group("drift")
    drift.add_argument("--drift", metavar="FEATURE", help="the feature that drifts (the first number)")
    by = "standard deviations of the training rows, for a number; 0: no drift"
    option(drift, "--drift-by", 2.5, by, type=float, metavar="N")
    option(drift, "--drift-after", Scenario.drift_after, "when it sets in", type=_amount, metavar="SECONDS")
    return parser.parse_args(arguments)


def _local(variable: str, port: int) -> str:
    """Return the URL of a port as `make up` chooses it."""
    return f"http://127.0.0.1:{os.environ.get(variable) or port}"


def _amount(text: str) -> float:
    value = float(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 0")
    return value


def _positive(text: str) -> float:
    if not (value := _amount(text)):
        raise argparse.ArgumentTypeError("0 is nothing")
    return value


def _share(text: str) -> float:
    if not 0 <= (value := float(text)) <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not a share from 0 to 1")
    return value


async def run(options: argparse.Namespace) -> None:
    """Send traffic until time is up or a signal ends it.

    Raises:
        NotServed: if there is nothing to send traffic to.
    """
    async with connect(options.url) as client:
        model = await fetch(client, options.model)
        scenario = Scenario(options.drift_after if options.drift_by else math.inf, options.bursts)
        # Calls and bursts draw from two samplers, so that the order of answers does not change what is sent.
        samplers = [Sampler(model, options.seed + offset, options.drift, options.drift_by) for offset in range(2)]
        calls, bursts = (Traffic(model, each, options.seed, options.errors, options.jobs) for each in samplers)
        load = Load(client, calls, bursts, scenario, options.rate, options.seed)
        drifting = samplers[0].drifting if options.drift_by else None
        print(await _introduction(options, model, scenario, drifting), flush=True)
        progress = Progress(sys.stdout, load.tally)
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, load.end)

        async def keep_showing() -> None:
            while True:
                await asyncio.sleep(progress.every_seconds)
                progress.show(load.elapsed, scenario.phase(load.elapsed))

        showing = asyncio.create_task(keep_showing())
        try:
            await load.run(options.seconds or math.inf)
        finally:
            showing.cancel()
            progress.show(load.elapsed, scenario.phase(load.elapsed))
            progress.leave()
    print(f"\n{load.tally.summary()}")


async def _introduction(options: argparse.Namespace, model: Model, scenario: Scenario, drifting: str | None) -> str:
    """Return what happens when, and links to where it is seen."""
    timetable = [(0.0, "rows as in training: request rates, latencies and predictions leave zero")]
    if scenario.burst_every:
        every = f"every {scenario.burst_every:g} s a burst of {BURST_SECONDS:g} s"
        timetable.append((scenario.burst_every / 2, f"{every}: rows wait, and some calls are rejected"))
    if drifting is not None:
        timetable.append((scenario.drift_after, f"{drifting} drifts: its PSI rises, within a minute"))
    if options.seconds:
        timetable.append((options.seconds, "the end"))
    ahead = [(clock(at), text) for at, text in sorted(timetable) if at <= (options.seconds or math.inf)]
    links = await _dashboards(options.grafana) or await _graphs(options.prometheus, model, drifting)
    missing = f"neither Grafana ({options.grafana}) nor Prometheus ({options.prometheus}) answers: no graphs to look at"
    rows = [*ahead, ("", ""), *(links.items() or [("", missing)])]
    width = max(len(left) for left, _ in rows)
    head = (
        f"{options.rate:g} calls per second to {model.name} {model.version} on {options.url}: "
        f"{options.errors:.0%} wrong on purpose, {options.jobs:.0%} jobs. Ctrl-C ends it."
    )
    return "\n".join([head, "", *(f"  {left:<{width}}  {right}".rstrip() for left, right in rows), ""])


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


async def _answer(url: str) -> httpx.Response | None:
    try:
        async with httpx.AsyncClient(timeout=2, trust_env=False) as client:
            answer = await client.get(url)
            return answer if answer.status_code == 200 else None
    except httpx.TransportError:
        return None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command, and return its exit code."""
    try:
        asyncio.run(run(parse(arguments)))
    except NotServed as error:
        print(f"headrace: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        # Ctrl-C before the traffic began.
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
