"""The forms of queries.

Two rules hold for this service:

- Every gateway reads the same numbers from Redis, so those are taken as the maximum over gateways, never as a sum.
- `or vector(0)` belongs only behind an expression without labels: behind others it would add a series of its own.
"""

MODELS = 'model=~"$model"'
"""Restricts a query to the models that are chosen at the top of the dashboard."""

MODELS_OR_NONE = 'model=~"$model|"'
"""Restricts a query to the chosen models, and to series about no model."""

MODEL = 'model="$model"'
"""Restricts a query to one model."""

VERSIONS = 'version=~"$version"'
FEATURE = 'feature="$feature"'
INSTANCES = 'instance=~"$instance"'

OURS = 'job=~"gateway|worker"'
"""Our own processes among Prometheus' targets."""

WINDOW = "${window}"
"""The end of the names of series that are recorded over the chosen window."""


def select(metric: str, *matchers: str) -> str:
    """Return the series of a metric whose labels match."""
    return f"{metric}{{{', '.join(matchers)}}}" if matchers else metric


def rate(metric: str, *matchers: str) -> str:
    """Return events per second, over at least four scrapes, so that a failed one leaves no hole."""
    return f"rate({select(metric, *matchers)}[$__rate_interval])"


def increase(metric: str, *matchers: str) -> str:
    """Return events within the interval of `rate`."""
    return f"increase({select(metric, *matchers)}[$__rate_interval])"


def total(expression: str, *by: str) -> str:
    """Return the sum over replicas, and over all labels but these."""
    return f"sum by ({', '.join(by)}) ({expression})" if by else f"sum({expression})"


def agreed(expression: str, *by: str) -> str:
    """Return a value that every replica reports."""
    return f"max by ({', '.join(by)}) ({expression})" if by else f"max({expression})"


def quantile(level: float, histogram: str, *matchers: str, by: tuple[str, ...] = ()) -> str:
    """Return a histogram's quantile over all replicas: their buckets are added, not their quantiles. NaN if idle."""
    return f"histogram_quantile({level}, {total(rate(f'{histogram}_bucket', *matchers), 'le', *by)})"


def mean(histogram: str, *matchers: str, by: tuple[str, ...] = ()) -> str:
    """Return the mean of a histogram's observations, which can't be negative. NaN if idle."""
    return f"{total(rate(f'{histogram}_sum', *matchers), *by)} / {total(rate(f'{histogram}_count', *matchers), *by)}"


def fraction(part: str, whole: str, *by: str) -> str:
    """Return a part of a rate; 0 if idle, because the divisor is never 0."""
    divided = f"{total(part, *by)} / clamp_min({total(whole, *by)}, 1e-9)"
    return divided if by else f"{divided} or vector(0)"


def share(counts: str, within: tuple[str, ...], of: str) -> str:
    """Return the shares of counts over a label, per group; all 0 if there are none."""
    groups = ", ".join(within)
    return f"{total(counts, *within, of)} / on ({groups}) group_left () clamp_min({total(counts, *within)}, 1e-9)"


def named(expression: str, label: str, value: str) -> str:
    """Give a label this value where it has none, so that the legend has something to show."""
    return f'label_replace({expression}, "{label}", "{value}", "{label}", "")'


def otherwise(expression: str, instead: str, **labels: str) -> str:
    """Return the expression, or one series with these labels and this value if it has none."""
    for name, value in labels.items():
        instead = f'label_replace({instead}, "{name}", "{value}", "", "")'
    return f"{expression} or ({instead} unless on () ({expression}))"
