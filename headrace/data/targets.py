"""The targets that an estimator was fitted on, beside what it predicts: for the model card and for scores."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import is_classifier, is_regressor
from sklearn.metrics import accuracy_score, f1_score, mean_absolute_error, r2_score

from headrace.data.answers import Answers
from headrace.errors import NotExportable


@dataclass(frozen=True, eq=False)
class Targets:
    """Names of the outputs and, if known, the targets of each, shape (n rows,)."""

    names: list[str]
    values: list[NDArray[Any]] | None = None
    numbers: bool = False


@dataclass(frozen=True, eq=False)
class Truth:
    """Targets and predictions of the same rows, per output; nothing if the targets are not known.

    `held_out` says that no model was asked for rows on which it was fitted.
    """

    expected: list[NDArray[Any]]
    predicted: list[NDArray[Any]]
    numbers: bool
    held_out: bool = False

    @classmethod
    def of(cls, targets: Targets, positions: list[int], predictions: NDArray[Any], held_out: Any) -> "Truth":
        """The truth about the rows at `positions`, of which `predictions` speak, or about all if they are held out.

        Raises:
            NotExportable: if `held_out` does not have the shape of the targets.
        """
        if targets.values is None:
            return cls([], [], targets.numbers)
        if held_out is None:
            return cls([each[positions] for each in targets.values], Answers(predictions).columns(), targets.numbers)
        predicted = Answers(np.asarray(held_out)).columns()
        if [each.shape for each in predicted] != [each.shape for each in targets.values]:
            raise NotExportable(f"held_out has shape {np.shape(held_out)}, which is not that of y")
        return cls(targets.values, predicted, targets.numbers, held_out=True)

    def scores(self) -> dict[str, float]:
        """Scores on these rows, the mean over the outputs; their names say if the model was fitted on them."""
        pairs = list(zip(self.expected, self.predicted, strict=True))
        if not pairs:
            return {}
        if self.numbers:
            named = {
                "r2": [r2_score(*pair) for pair in pairs] if len(self.expected[0]) > 1 else [],
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
    """The targets of a classifier or regressor; of others, only names.

    Raises:
        NotExportable: if `y` does not have one value per row and output.
    """
    names = ["prediction"] if outputs == 1 else [f"output_{i}" for i in range(outputs)]
    if y is None or not (is_classifier(estimator) or is_regressor(estimator)):
        return Targets(names)
    if isinstance(y, pd.DataFrame):
        columns = [_plain(y[name]) for name in y.columns]
        if outputs > 1:
            names = [str(name) for name in y.columns]
    else:
        columns = Answers(_plain(y)).columns()
    if len(columns) != outputs or any(each.shape != (rows,) for each in columns):
        raise NotExportable(f"y has shape {np.shape(y)}, expected {(rows,) if outputs == 1 else (rows, outputs)}")
    return Targets(names, columns, numbers=is_regressor(estimator))


def _plain(values: Any) -> NDArray[Any]:
    # Pandas' own dtypes become NumPy's, so that targets and predictions compare.
    plain = np.asarray(values)
    return np.asarray(plain.tolist()) if plain.dtype == object else plain
