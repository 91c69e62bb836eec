"""Cross-validation: scores of an estimator on rows that it was not fitted on."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.metrics import accuracy_score, f1_score, log_loss, mean_absolute_error, r2_score, root_mean_squared_error
from sklearn.model_selection import KFold, StratifiedKFold

from training.dataset import Dataset
from training.errors import DatasetInvalid

FOLDS = 5


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The result of a cross-validation.

    Attributes:
        scores: the mean over the folds, by name.
        deviations: the standard deviation over the folds, by name.
        predictions: shape (n rows,), each by the estimator that was not fitted on the row.
    """

    scores: dict[str, float]
    deviations: dict[str, float]
    predictions: NDArray[Any]


def evaluate(
    estimator: Any, dataset: Dataset, *, seed: int = 0, started: Callable[[int], None] = lambda fold: None
) -> Evaluation:
    """Cross-validate over shuffled folds, stratified for classes; the estimator itself stays unfitted.

    Args:
        estimator: an unfitted estimator.
        dataset: the rows and targets.
        seed: of the shuffle.
        started: called with the number of each fold, from 1, before the estimator is fitted for it.

    Returns:
        For classes `accuracy` and `f1_macro` in 0..1, higher is better, and, if the estimator has `predict_proba` and
        no fold misses a class, `log_loss` in nats, lower is better. For numbers `r2`, at most 1, higher is better, and
        `mean_absolute_error` and `root_mean_squared_error` in units of the target.

    Raises:
        DatasetInvalid: if there are fewer rows, or fewer rows of every class, than folds.
    """
    predictions = np.empty(len(dataset.targets), dtype=dataset.targets.dtype)
    folds: list[dict[str, float]] = []
    for number, (fit, test) in enumerate(_splits(dataset, seed), start=1):
        started(number)
        fitted = clone(estimator).fit(_at(dataset.rows, fit), dataset.targets[fit])
        rows, targets = _at(dataset.rows, test), dataset.targets[test]
        predictions[test] = fitted.predict(rows)
        if dataset.task == "regression":
            folds.append(_number_scores(targets, predictions[test]))
        else:
            folds.append(_class_scores(fitted, rows, targets, predictions[test], np.unique(dataset.targets)))
    names = [name for name in folds[0] if all(name in fold for fold in folds)]
    return Evaluation(
        scores={name: float(np.mean([fold[name] for fold in folds])) for name in names},
        deviations={name: float(np.std([fold[name] for fold in folds])) for name in names},
        predictions=predictions,
    )


def _splits(dataset: Dataset, seed: int) -> list[Any]:
    splitter = KFold if dataset.task == "regression" else StratifiedKFold
    try:
        with warnings.catch_warnings():
            # The warning is about classes with fewer rows than folds: they are absent from some folds.
            warnings.simplefilter("ignore", UserWarning)
            return list(splitter(FOLDS, shuffle=True, random_state=seed).split(dataset.rows, dataset.targets))
    except ValueError:
        what = "rows" if dataset.task == "regression" else "rows of any class"
        raise DatasetInvalid(f"{dataset.name}: not {FOLDS} {what}, too few to evaluate a model") from None


def _at(rows: Any, positions: NDArray[np.intp]) -> Any:
    return rows.iloc[positions] if hasattr(rows, "iloc") else rows[positions]


def _number_scores(targets: NDArray[Any], predictions: NDArray[Any]) -> dict[str, float]:
    scores = {
        "mean_absolute_error": float(mean_absolute_error(targets, predictions)),
        "root_mean_squared_error": float(root_mean_squared_error(targets, predictions)),
    }
    # r2 is undefined for one row: there is no variance to explain.
    return {"r2": float(r2_score(targets, predictions)), **scores} if len(targets) > 1 else scores


def _class_scores(
    fitted: Any, rows: Any, targets: NDArray[Any], predictions: NDArray[Any], classes: NDArray[Any]
) -> dict[str, float]:
    scores = {
        "accuracy": float(accuracy_score(targets, predictions)),
        "f1_macro": float(f1_score(targets, predictions, average="macro", zero_division=0)),
    }
    if hasattr(fitted, "predict_proba") and np.array_equal(fitted.classes_, classes):
        scores["log_loss"] = float(log_loss(targets, fitted.predict_proba(rows), labels=classes))
    return scores
