"""Arrays of an estimator that nothing may change after their check."""

from typing import Any

import numpy as np

from headrace.errors import ArtifactInvalid
from headrace.loading.fitted.places import attributes
from headrace.loading.parts import contents
from headrace.loading.tokens import SCALARS, is_library


def freeze_arrays(estimator: Any) -> None:
    """Make the arrays in an estimator read-only.

    A step of a pipeline may change the array that it gets in place, and a step before it may have handed on an array of
    another part, whose numbers native code follows. An object of a trusted module may write into its own arrays. So
    does scikit-learn's code into those of objects, or asks for the right to. Both are read-only only if they are held
    in two places: none can be handed on that is not.

    Raises:
        ArtifactInvalid: if a dictionary describes memory, as NumPy's array interface does. An object that answers for
            it by a label or a name, as pandas' do, would make an array of any memory.
    """
    pending: list[tuple[Any, bool]] = [(estimator, False)]
    seen: dict[int, Any] = {}
    again: set[int] = set()
    while pending:
        value, is_own = pending.pop()
        if type(value) in SCALARS or id(value) in again:
            continue
        is_shared = id(value) in seen
        if isinstance(value, np.ndarray) and (is_shared or not (is_own or value.dtype.hasobject)):
            value.flags.writeable = False
        if isinstance(value, dict) and isinstance(value.get("typestr"), str | bytes):
            raise ArtifactInvalid("it has a dictionary that describes memory as an array")
        held = contents(value)
        if held is not None:
            pending.extend((each, is_own and not is_shared) for each in held if type(each) not in SCALARS)
        elif not is_shared:
            is_own = not is_library(str(type(value).__module__))
            pending.extend((each, is_own) for each in attributes(value).values())
        seen[id(value)] = value
        if is_shared:
            again.add(id(value))
