"""An estimator controlled by its rows, for tests that need a slow, raising or dying model, and parts of pipelines."""

import ctypes
import os
import signal
import sys
import time
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin

PUPPET_FOLDER = "PUPPET_FOLDER"
"""Environment variable: the folder in which a puppet leaves a file for every row with REMEMBER or DIE_ONCE."""


PUPPET_ROW_SECONDS = "PUPPET_ROW_SECONDS"
"""Environment variable: the seconds that a puppet needs for each row beside its act."""


PUPPET_DIES_LOADED = "PUPPET_DIES_LOADED"
"""Environment variable: if it is set, a process dies of loading a `Deadly` estimator, and hangs in an `Endless` one."""


class Act(IntEnum):
    """An act that a row asks for, with `value` as its argument."""

    ANSWER = 0
    RAISE = 1
    DIE = 2
    SLEEP = 3
    ANSWER_NAN = 4
    DIE_ONCE = 5
    REMEMBER = 6
    EXHAUST_MEMORY = 7
    EXIT = 8


class Puppet(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier of the features `value` and `act`: class `high` where value >= 0, else `low`."""

    def fit(self, rows: NDArray[np.float64], targets: NDArray[Any]) -> "Puppet":
        """Learn nothing."""
        self.classes_ = np.unique(targets)
        self.n_features_in_ = rows.shape[1]
        return self

    def predict_proba(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the probabilities of high and low, shape (n rows, 2)."""
        high = (rows[:, 0] >= 0).astype(float)
        high[rows[:, 1] == Act.ANSWER_NAN] = np.nan
        return np.column_stack([high, 1 - high])

    def predict(self, rows: NDArray[np.float64]) -> NDArray[Any]:
        """Perform the act of each row, and return the classes, shape (n rows,)."""
        time.sleep(float(os.environ.get(PUPPET_ROW_SECONDS, "0")) * len(rows))
        for value, act in rows.tolist():
            _perform(value, Act(int(act)))
        answers: NDArray[Any] = self.classes_[(rows[:, 0] < 0).astype(int)]
        return answers


class Deadly(BaseEstimator):  # type: ignore[misc]
    """An estimator whose loading ends the process."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        """End the process."""
        if PUPPET_DIES_LOADED in os.environ:
            os.kill(os.getpid(), signal.SIGKILL)


class Endless(BaseEstimator):  # type: ignore[misc]
    """An estimator whose loading never ends, and lets no other thread of the process run."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Wait in a function of C that keeps the lock of the interpreter."""
        if PUPPET_DIES_LOADED in os.environ:
            ctypes.PyDLL(None).sleep(600)


class Table(BaseEstimator):  # type: ignore[misc]
    """A regressor with an array of 17 MB, whose last number is the prediction for every row."""

    def fit(self, rows: NDArray[np.float64], targets: NDArray[np.float64]) -> "Table":
        """Learn the first target."""
        self.table_ = np.full(2_100_000, targets[0])
        return self

    def predict(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the last number of the table for each row, shape (n rows,)."""
        return np.full(len(rows), self.table_[-1])


def as_text(frame: Any) -> Any:
    """Return the values of a data frame as text, which shows their dtypes: `1000` or `1000.0`."""
    return frame.astype(str)


def less_the_mean(rows: Any) -> Any:
    """Return rows less the mean of their batch: a mistake, since it belongs to the training rows."""
    return rows - rows.mean()


def _perform(value: float, act: Act) -> None:
    if act is Act.RAISE:
        raise ValueError("asked to raise")
    if act is Act.SLEEP:
        time.sleep(value)
    if act is Act.DIE:
        os.kill(os.getpid(), signal.SIGKILL)
    if act is Act.EXHAUST_MEMORY:
        # More than any limit or address space allows, so Python raises MemoryError.
        bytearray(1 << 60)
    if act is Act.EXIT:
        sys.exit(3)
    if act in (Act.DIE_ONCE, Act.REMEMBER):
        mark = Path(os.environ[PUPPET_FOLDER]) / f"{value:g}"
        seen = mark.exists()
        with mark.open("a") as file:
            file.write("x")
        if act is Act.DIE_ONCE and not seen:
            os.kill(os.getpid(), signal.SIGKILL)
