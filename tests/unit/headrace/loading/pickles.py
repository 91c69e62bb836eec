"""Pickles that no library writes."""

import copyreg
import io
import pickle
from typing import Any

import joblib
import numpy as np


class Reduced:
    """An object that is pickled as a call, and a state if there is one."""

    def __init__(self, function: Any, *args: Any, state: Any = None) -> None:
        self._call = (function, args) if state is None else (function, args, state)

    def __reduce__(self) -> Any:
        return self._call


class Made:
    """An object that is pickled as an instance of another class, with any state, list items and dictionary items."""

    def __init__(self, kind: type, state: Any = None, items: Any = None, pairs: Any = None) -> None:
        self.__dict__["_parts"] = kind, state, items, pairs

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return self.__dict__["_parts"][0]

    def __reduce_ex__(self, protocol: Any) -> Any:
        kind, state, items, pairs = self.__dict__["_parts"]
        return copyreg.__newobj__, (kind,), state, items and iter(items), pairs and iter(pairs.items())  # type: ignore[attr-defined]


class Named:
    """An object that is pickled as the name of another one."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name

    def __call__(self) -> None:
        """Let pickle take it for a function."""

    def __repr__(self) -> str:
        return f"{self.module}.{self.name}"


_PicklerInPython: Any = pickle._Pickler


class _Pickler(_PicklerInPython):  # type: ignore[misc]
    def save(self, obj: Any, save_persistent_id: bool = True) -> None:
        if isinstance(obj, Named):
            super().save(obj.module)
            super().save(obj.name)
            self.write(pickle.STACK_GLOBAL)
        else:
            super().save(obj, save_persistent_id)


def pickled(value: Any) -> bytes:
    """Return a pickle in which `Named` stands for any name, also inside of calls."""
    stream = io.BytesIO()
    _Pickler(stream, 4).dump(value)
    return stream.getvalue()


def dumped(value: Any, compress: int = 0) -> bytes:
    stream = io.BytesIO()
    joblib.dump(value, stream, compress=compress)
    return stream.getvalue()


def objects(*values: Any) -> Any:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def by_name(module: str, name: str) -> bytes:
    """Return a pickle of nothing but the object of this name."""
    return pickled(Named(module, name))


def with_state(estimator: Any, **state: Any) -> Any:
    """Return an estimator with attributes that its class does not set."""
    vars(estimator).update(state)
    return estimator
