"""The parts of an estimator."""

from collections import deque
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from headrace.loading.tokens import SCALARS


def parts(estimator: Any) -> Iterator[Any]:
    """Yield an estimator and the objects with attributes in it that are estimators or of scikit-learn, once each.

    The fitted parts are walked, because `get_params` does not reach those of searches and ensembles. Attributes that
    are set meanwhile are walked too, so the caller may change a part that it gets.
    """
    pending = [estimator]
    seen: dict[int, Any] = {}
    while pending:
        part = pending.pop()
        if type(part) in SCALARS or isinstance(part, np.generic):
            continue
        # Containers too: one that holds another twice, which does so in turn, has more parts than anyone can visit.
        if id(part) in seen:
            continue
        seen[id(part)] = part
        held = contents(part)
        if held is not None:
            pending.extend(held)
        elif hasattr(part, "__dict__") and not isinstance(part, type) and _is_of_an_estimator(part):
            yield part
            pending.extend(vars(part).values())


def leaves(value: Any) -> Iterator[Any]:
    """Yield what containers hold that is no container itself, once each; the value itself if it is none."""
    pending = [value]
    seen: dict[int, Any] = {}
    while pending:
        each = pending.pop()
        if id(each) in seen:
            continue
        seen[id(each)] = each
        held = contents(each)
        if held is None:
            yield each
        else:
            pending.extend(held)


def contents(value: Any) -> Collection[Any] | None:
    """Return what a container holds; None if a value is no container of objects."""
    if isinstance(value, list | tuple | set | frozenset | deque):
        return value
    if isinstance(value, dict):
        return value.values()
    if isinstance(value, np.ndarray) and value.dtype.hasobject:
        # Not by the array's own class: a masked array hides what is behind its mask.
        items: list[Any] = np.asarray(value).ravel().tolist()
        return items
    return None


def _is_of_an_estimator(part: Any) -> bool:
    return isinstance(part, BaseEstimator) or type(part).__module__.startswith("sklearn.")
