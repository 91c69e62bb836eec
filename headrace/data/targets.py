"""Targets that an estimator was fitted on, and their comparison with predictions, for the model card and the scores."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, f1_score, mean_absolute_error, r2_score

from headrace.data.kinds import kind_of
from headrace.data.predictions import Predictions
from headrace.errors import NotExportable
from headrace.models.fields import NAME_MAX


@dataclass(frozen=True, eq=False)
class Targets:
    """The targets of n rows.

    Attributes:
        names: the names of the outputs.
        values: one array of shape (n,) per output; None if the targets are not known.
        numbers: True for a regressor.
    """

    names: list[str]
    values: list[NDArray[Any]] | None = None
    numbers: bool = False


@dataclass(frozen=True, eq=False)
class Comparison:
    """Targets and predictions for the same rows; empty lists if the targets are not known.

    Attributes:
        targets: one array of shape (n rows,) per output.
        predicted: one array of shape (n rows,) per output.
        numbers: True for a regressor.
        held_out: True if each row was predicted by a model that was not fitted on it.
    """

    targets: list[NDArray[Any]]
    predicted: list[NDArray[Any]]
    numbers: bool
    held_out: bool = False

    @classmethod
    def of(cls, targets: Targets, positions: list[int], predictions: NDArray[Any], held_out: Any) -> "Comparison":
        """Compare all targets with held-out predictions, or those at `positions` with `predictions`.

        Raises:
            NotExportable: if `held_out` does not have the shape of the targets.
        """
        if targets.values is None:
            return cls([], [], targets.numbers)
        if held_out is None:
            chosen = [each[positions] for each in targets.values]
            return cls(chosen, Predictions(predictions).by_output(), targets.numbers)
        predicted = Predictions(np.asarray(held_out)).by_output()
        if [each.shape for each in predicted] != [each.shape for each in targets.values]:
            raise NotExportable(f"held_out has shape {np.shape(held_out)}, which is not that of y")
        return cls(targets.values, predicted, targets.numbers, held_out=True)

    def scores(self) -> dict[str, float]:
        """Return scores by name, each the mean over the outputs.

        The names begin with `training_` if the model was fitted on these rows.
        """
        pairs = list(zip(self.targets, self.predicted, strict=True))
        if not pairs:
            return {}
        if self.numbers:
            named = {
                "r2": [r2_score(*pair) for pair in pairs] if len(self.targets[0]) > 1 else [],
                "mean_absolute_error": [mean_absolute_error(*pair) for pair in pairs],
            }
        else:
            named = {
                "accuracy": [accuracy_score(*pair) for pair in pairs],
                "f1_macro": [f1_score(*pair, average="macro", zero_division=0) for pair in pairs],
            }
        prefix = "" if self.held_out else "training_"
        return {prefix + name: float(np.mean(values)) for name, values in named.items() if values}


def read_targets(estimator: Any, y: Any, rows: int, outputs: int) -> Targets:
    """Read the targets of a classifier or regressor; for other estimators, only name the outputs.

    Raises:
        NotExportable: if `y` does not have one value per row and output.
    """
    names = ["prediction"] if outputs == 1 else [f"output_{i}" for i in range(outputs)]
    kind = kind_of(estimator)
    if y is None or kind not in ("classifier", "regressor"):
        return Targets(names)
    if isinstance(y, pd.DataFrame):
        columns = [_plain(y[name]) for name in y.columns]
        if outputs > 1:
            names = [str(name) for name in y.columns]
            wrong = next((name for name in names if not 0 < len(name) <= NAME_MAX), None)
            if wrong is not None:
                raise NotExportable(f"the name {wrong[:40]!r}… of an output has not 1 to {NAME_MAX} characters")
    else:
        columns = Predictions(_plain(y)).by_output()
    if len(columns) != outputs or any(each.shape != (rows,) for each in columns):
        raise NotExportable(f"y has shape {np.shape(y)}, expected {(rows,) if outputs == 1 else (rows, outputs)}")
    return Targets(names, columns, numbers=kind == "regressor")


def _plain(values: Any) -> NDArray[Any]:
    # Extension dtypes of pandas become NumPy dtypes, so that targets and predictions can be compared.
    plain = np.asarray(values)
    return np.asarray(plain.tolist()) if plain.dtype == object else plain
