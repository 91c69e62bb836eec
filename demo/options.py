"""The command line."""

import argparse
import math
import os
from collections.abc import Sequence

from demo.scenario import Scenario


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options; with errors, it says so and ends the program."""
    parser = argparse.ArgumentParser(
        prog="python -m demo",
        description="Sends traffic to a running stack, so that every dashboard moves: rows as the model saw them in "
        "training, then drifted ones, jobs, wrong calls, and bursts that are too much. Ctrl-C ends it.",
    )
    where = parser.add_argument_group("where to")
    where.add_argument("--url", default=_local("GATEWAY_PORT", 8000), help="the gateway (%(default)s)")
    where.add_argument("--model", metavar="NAME", help="a model that it serves (its default one)")
    where.add_argument(
        "--prometheus", default=_local("PROMETHEUS_PORT", 9090), metavar="URL", help="for links (%(default)s)"
    )
    where.add_argument("--grafana", default=_local("GRAFANA_PORT", 3000), metavar="URL", help="for links (%(default)s)")
    how = parser.add_argument_group("how much")
    how.add_argument("--rate", type=_positive, default=40.0, help="calls per second, without bursts (%(default)g)")
    how.add_argument("--seconds", type=_amount, default=240.0, help="how long; 0: until Ctrl-C (%(default)g)")
    how.add_argument("--errors", type=_share, default=0.05, metavar="SHARE", help="that is wrong (%(default)g)")
    how.add_argument("--jobs", type=_share, default=0.15, metavar="SHARE", help="that is jobs (%(default)g)")
    how.add_argument(
        "--bursts",
        type=_amount,
        default=Scenario.burst_every,
        metavar="SECONDS",
        help="from one burst to the next; 0: none (%(default)g)",
    )
    how.add_argument("--seed", type=int, default=1, help="the same rows with the same seed (%(default)d)")
    drift = parser.add_argument_group("drift")
    drift.add_argument("--drift", metavar="FEATURE", help="the feature that drifts (the first number)")
    drift.add_argument(
        "--drift-by",
        type=float,
        default=2.5,
        metavar="N",
        help="standard deviations of the training rows, for a number; 0: no drift (%(default)g)",
    )
    drift.add_argument(
        "--drift-after", type=_amount, default=Scenario.drift_after, metavar="SECONDS", help="(%(default)g)"
    )
    return parser.parse_args(arguments)


def _local(variable: str, port: int) -> str:
    """As `make up` chooses ports."""
    return f"http://127.0.0.1:{os.environ.get(variable) or port}"


def _amount(text: str) -> float:
    value = float(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 0")
    return value


def _positive(text: str) -> float:
    value = _amount(text)
    if not value:
        raise argparse.ArgumentTypeError("0 is nothing")
    return value


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not a share from 0 to 1")
    return value
