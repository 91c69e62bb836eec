"""The parts of an estimator."""

from collections import deque
from collections.abc import Iterator
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
        if isinstance(part, list | tuple | set | frozenset | deque):
            pending.extend(part)
        elif isinstance(part, dict):
            pending.extend(part.values())
        elif isinstance(part, np.ndarray):
            if part.dtype.hasobject:
                # Not by the array's own class: a masked array hides what is behind its mask.
                pending.extend(np.asarray(part).ravel().tolist())
        elif hasattr(part, "__dict__") and not isinstance(part, type) and _is_of_an_estimator(part):
            yield part
            pending.extend(vars(part).values())


def _is_of_an_estimator(part: Any) -> bool:
    return isinstance(part, BaseEstimator) or type(part).__module__.startswith("sklearn.")
