"""`make demo`: look for the stack, say what is to be seen, send, and sum up."""

import argparse
import asyncio
import math
import signal
import sys
from collections.abc import Sequence

import httpx

from demo import options, sights
from demo.burst import Burst
from demo.generator import Generator
from demo.model import Model, NotServed, fetch
from demo.progress import Progress, summary
from demo.sampler import Sampler
from demo.scenario import Scenario
from demo.sender import Sender, connect
from demo.tally import Tally
from demo.traffic import Traffic


async def run(chosen: argparse.Namespace) -> None:
    """All of it.

    Raises:
        NotServed: if there is nothing to send traffic to.
    """
    async with connect(chosen.url) as client:
        model = await fetch(client, chosen.model)
        scenario = Scenario(chosen.drift_after if chosen.drift_by else math.inf, chosen.bursts)
        seconds = chosen.seconds or math.inf
        tally = Tally()
        generator, drifting = _assemble(chosen, model, client, tally, scenario)
        print(await _introduction(chosen, model, scenario, drifting, seconds), flush=True)
        progress = Progress(sys.stdout, tally, scenario)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, generator.end)
        showing = asyncio.create_task(_keep_showing(progress, generator))
        try:
            await generator.run(seconds)
        finally:
            showing.cancel()
            progress.show(generator.elapsed)
            progress.leave()
    print(f"\n{summary(tally)}")


def _assemble(
    chosen: argparse.Namespace, model: Model, client: httpx.AsyncClient, tally: Tally, scenario: Scenario
) -> tuple[Generator, str | None]:
    """The generator, and the feature that drifts."""
    # Each draws by itself, so that the order of answers changes nothing in what is sent.
    samplers = [Sampler(model, chosen.seed + offset, chosen.drift, chosen.drift_by) for offset in range(2)]
    traffic = Traffic(model, samplers[0], chosen.seed, chosen.errors, chosen.jobs)
    sender = Sender(client, tally)
    burst = Burst(samplers[1], model.prefix, sender.send)
    generator = Generator(traffic, burst, sender, tally, scenario, chosen.rate, chosen.seed)
    return generator, samplers[0].drifting if chosen.drift_by else None


async def _introduction(
    chosen: argparse.Namespace, model: Model, scenario: Scenario, drifting: str | None, seconds: float
) -> str:
    links = await sights.dashboards(chosen.grafana) or await sights.graphs(chosen.prometheus, model, drifting)
    missing = f"neither Grafana ({chosen.grafana}) nor Prometheus ({chosen.prometheus}) answers: nothing to look at"
    rows = [*sights.timetable(scenario, drifting, seconds), ("", ""), *(links.items() or [("", missing)])]
    width = max(len(left) for left, _ in rows)
    head = (
        f"{chosen.rate:g} calls per second to {model.name} {model.version} on {chosen.url}: "
        f"{chosen.errors:.0%} wrong on purpose, {chosen.jobs:.0%} jobs. Ctrl-C ends it."
    )
    return "\n".join([head, "", *(f"  {left:<{width}}  {right}".rstrip() for left, right in rows), ""])


async def _keep_showing(progress: Progress, generator: Generator) -> None:
    while True:
        await asyncio.sleep(progress.every_seconds)
        progress.show(generator.elapsed)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; the answer is the exit code."""
    try:
        asyncio.run(run(options.parse(arguments)))
    except NotServed as error:
        print(f"headrace: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        # While it was looking around.
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
