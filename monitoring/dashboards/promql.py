"""The forms that a query takes. What they have to do with this service:

- Every gateway reads the same numbers from Redis, so those are taken as the maximum over gateways, never as a sum.
- `or vector(0)` belongs only behind an expression without labels: behind others it would add a series of its own.
"""

MODEL = 'model=~"$model"'
"""Restricts a query to what is chosen at the top of the dashboard."""

SHOWN_PERIOD = "$__range"
"""For instant queries: all of the time that the dashboard shows."""


def select(metric: str, *matchers: str) -> str:
    """The series of a metric whose labels match."""
    return f"{metric}{{{', '.join(matchers)}}}" if matchers else metric


def rate(metric: str, *matchers: str) -> str:
    """Events per second, over at least four scrapes, so that one that failed leaves no hole."""
    return f"rate({select(metric, *matchers)}[$__rate_interval])"


def increase(metric: str, *matchers: str, period: str = "$__rate_interval") -> str:
    """Events within a period."""
    return f"increase({select(metric, *matchers)}[{period}])"


def total(expression: str, *by: str) -> str:
    """The sum over replicas, and over all labels but these."""
    return f"sum by ({', '.join(by)}) ({expression})" if by else f"sum({expression})"


def agreed(expression: str, *by: str) -> str:
    """What every replica says alike."""
    return f"max by ({', '.join(by)}) ({expression})" if by else f"max({expression})"


def quantile(level: float, histogram: str, *matchers: str, by: tuple[str, ...] = ()) -> str:
    """A quantile of a histogram over all replicas: their buckets are added, never their quantiles. NaN if idle."""
    return f"histogram_quantile({level}, {total(rate(f'{histogram}_bucket', *matchers), 'le', *by)})"


def mean(histogram: str, *matchers: str, by: tuple[str, ...] = ()) -> str:
    """The mean of what a histogram observed, for what can't be negative. NaN if idle."""
    return f"{total(rate(f'{histogram}_sum', *matchers), *by)} / {total(rate(f'{histogram}_count', *matchers), *by)}"


def fraction(part: str, whole: str) -> str:
    """A part of a rate; 0 instead of nothing if idle, because the divisor is never 0."""
    return f"{total(part)} / clamp_min({total(whole)}, 1e-9) or vector(0)"


def share(counter: str, *matchers: str, within: tuple[str, ...], of: str) -> str:
    """How the events of the shown period are spread over a label, per group; all 0 if there are none."""
    events = increase(counter, *matchers, period=SHOWN_PERIOD)
    groups = ", ".join(within)
    return (
        f"{total(events, *within, of)} / on ({groups}) group_left () clamp_min({total(events, *within)}, 1e-9)"
    )  # fmt: skip
