"""One number out of many, as Grafana's reducers make it."""

import math
from collections.abc import Callable, Sequence

from monitoring.preview.prometheus import PreviewError
from monitoring.preview.scale import finite

_CALCS: dict[str, Callable[[list[float]], float]] = {
    "lastNotNull": lambda values: values[-1],
    "firstNotNull": lambda values: values[0],
    "mean": lambda values: sum(values) / len(values),
    "min": min,
    "max": max,
    "sum": sum,
    "range": lambda values: max(values) - min(values),
    "count": lambda values: float(len(values)),
}


def calculated(calc: str, values: Sequence[float]) -> float | None:
    """The number; None if nothing is there.

    Raises:
        PreviewError: if the reducer is not known here.
    """
    there = finite(values)
    if calc == "last":
        return values[-1] if values else None
    if calc not in _CALCS:
        raise PreviewError(f"the calculation {calc} is not known here")
    if not there:
        # Grafana shows a NaN that is there as such.
        return math.nan if values else None
    return _CALCS[calc](there)
