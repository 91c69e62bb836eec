"""`make demo`: find the stack, say what will be seen and where, send traffic, and sum up."""

import argparse
import asyncio
import math
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

from demo.guide import ENOUGH_MINUTES, conclusion, introduction
from demo.load import Load, connect
from demo.report import Progress
from demo.rows import NotServed, Sampler, fetch
from demo.traffic import Scenario, Traffic
from headrace.terminal import escaped, one_line


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
    duration: Any = how.add_mutually_exclusive_group()
    option(duration, "--seconds", 240.0, "duration; 0: until Ctrl-C", type=_amount)
    long = f"duration in minutes; alerts about drift need about {ENOUGH_MINUTES}"
    duration.add_argument("--minutes", dest="seconds", default=argparse.SUPPRESS, help=long, type=_minutes, metavar="N")
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


def _minutes(text: str) -> float:
    return _amount(text) * 60


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
        print(escaped(await introduction(options, model, scenario, drifting)), flush=True)
        progress = Progress(sys.stdout, load.tally, options.seconds)
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
    print(f"\n{load.tally.summary()}", escaped(await conclusion(options, model, drifting)), sep="\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command, and return its exit code."""
    try:
        asyncio.run(run(parse(arguments)))
    except NotServed as error:
        print(f"headrace: {one_line(str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        # Ctrl-C before the traffic began.
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
