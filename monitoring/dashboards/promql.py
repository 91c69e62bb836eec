"""The forms of queries.

Two rules hold for this service:

- Every gateway reads the same numbers from Redis, so those are taken as the maximum over gateways, never as a sum.
- `or vector(0)` belongs only behind an expression without labels: behind others it would add a series of its own.
"""

KNOWN = 'model!="unknown"'
"""Leaves out requests that name no model of the store: they are no model, and a single caller can send any number."""

MODELS = f'model=~"$model", {KNOWN}'
"""Restricts a query to the models that are chosen at the top of the dashboard."""

MODELS_OR_NONE = f'model=~"$model|", {KNOWN}'
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


def moving(values: str, growth: str) -> str:
    """Return those of the series that have grown within the time that is shown: zeros say nothing and fill legends.

    `growth` has the labels of `values`, and covers `[$__range] @ end()`, so that a series is shown as a whole.
    """
    return f"{values} and {growth} > 0"


def moving_rate(counter: str, *matchers: str, by: tuple[str, ...] = ()) -> str:
    """Return the rates of the counters that have moved within the time that is shown, summed over replicas."""
    return moving(total(rate(counter, *matchers), *by), total(shown_increase(counter, *matchers), *by))


def shown_increase(counter: str, *matchers: str) -> str:
    """Return events within the time that is shown."""
    return f"increase({select(counter, *matchers)}[$__range] @ end())"


def shown_maximum(gauge: str, *matchers: str) -> str:
    """Return the greatest value within the time that is shown."""
    return f"max_over_time({select(gauge, *matchers)}[$__range] @ end())"


def known(expression: str) -> str:
    """Return the values that are numbers. The expression can't be negative."""
    return f"{expression} >= 0"


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


def in_ranges(expression: str, infos: str, *bin_labels: str) -> str:
    """Give the bins of an expression the label `range`, which says what they hold."""
    labels = ", ".join(bin_labels)
    return f"{expression} * on ({labels}) group_left (range) {agreed(infos, *bin_labels, 'range')}"


def named(expression: str, label: str, value: str) -> str:
    """Give a label this value where it has none, so that the legend has something to show."""
    return f'label_replace({expression}, "{label}", "{value}", "{label}", "")'


def otherwise(expression: str, instead: str, **labels: str) -> str:
    """Return the expression, or one series with these labels and this value if it has none."""
    for name, value in labels.items():
        instead = f'label_replace({instead}, "{name}", "{value}", "", "")'
    return f"{expression} or ({instead} unless on () ({expression}))"
