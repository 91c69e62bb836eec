"""What an estimator says of rows, and the outputs that the manifest makes of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import is_classifier, is_clusterer, is_outlier_detector, is_regressor

from headrace.data.reference import class_reference, numeric_reference
from headrace.errors import NotExportable
from headrace.models.manifest import Output

Classes = list[Any]

TOLERANCE = 1e-6
"""Largest relative or absolute difference of two numbers that are the same answer."""


@dataclass(frozen=True, eq=False)
class Answers:
    """What an estimator says of n rows.

    `predictions` has shape (n,), or (n, outputs) if there are several; `probabilities` has one array of shape
    (n, classes) per output.
    """

    predictions: NDArray[Any]
    probabilities: list[NDArray[np.float64]] | None = None

    def plain(self, row: int) -> tuple[Any, Any]:
        """Prediction and probabilities of a row, as the manifest's samples hold them."""
        # A slice, because a cell of an object array has no tolist().
        prediction = self.predictions[row : row + 1].tolist()[0]
        if self.probabilities is None:
            return prediction, None
        shares = [each[row].tolist() for each in self.probabilities]
        return prediction, shares if self.predictions.ndim == 2 else shares[0]

    def columns(self) -> list[NDArray[Any]]:
        """The predictions of each output, shape (n,)."""
        return list(self.predictions.T) if self.predictions.ndim == 2 else [self.predictions]


def ask(estimator: Any, rows: Any, *, probabilities: bool) -> Answers:
    """Predict.

    Raises:
        NotExportable: if the estimator can't, or answers in a form that JSON can't say.
    """
    predict = getattr(estimator, "predict", None)
    if predict is None:
        raise NotExportable(f"{type(estimator).__name__} has no predict: it can't say anything of a new row")
    try:
        raw = predict(rows)
        shares = estimator.predict_proba(rows) if probabilities else None
    except Exception as error:
        raise NotExportable(f"it can't predict its own training rows: {type(error).__name__}: {error}") from error
    if hasattr(raw, "tocsr"):
        raise NotExportable("its predictions are sparse: fit it on a dense y")
    predictions = np.asarray(raw)
    if predictions.ndim == 2 and predictions.shape[1] == 1:
        predictions = predictions[:, 0]
    if predictions.ndim not in (1, 2) or len(predictions) != len(rows) or predictions.size == 0:
        raise NotExportable(f"its predictions have shape {predictions.shape} for {len(rows)} rows")
    if predictions.dtype.kind == "f" and not np.isfinite(predictions).all():
        raise NotExportable("it predicts NaN or infinity for training rows, which JSON can't say")
    return Answers(predictions, None if shares is None else _by_output(shares, several=predictions.ndim == 2))


def knows_probabilities(estimator: Any, rows: Any, classes: Sequence[Classes | None]) -> bool:
    """Whether predict_proba works and says one share per class and output.

    Only a call tells: some have the method and raise in it, and multi-label classifiers answer in another form.
    """
    if not hasattr(estimator, "predict_proba"):
        return False
    try:
        shares = _by_output(estimator.predict_proba(rows), several=len(classes) > 1)
    except Exception:
        return False
    return len(shares) == len(classes) and all(
        known is not None and each.shape == (len(rows), len(known)) and bool(np.isfinite(each).all())
        for each, known in zip(shares, classes, strict=True)
    )


def _by_output(shares: Any, *, several: bool) -> list[NDArray[np.float64]]:
    return [np.asarray(each) for each in (shares if several else [shares])]


def output_classes(estimator: Any, predictions: NDArray[Any]) -> list[Classes | None]:
    """The classes of each output in the order of their probabilities, None for numbers.

    Raises:
        NotExportable: if they are neither texts nor integers nor booleans, or a prediction is none of them.
    """
    columns = Answers(predictions).columns()
    if is_regressor(estimator):
        for column in columns:
            if column.dtype.kind not in "iuf":
                raise NotExportable(f"it is a regressor and predicts {column.dtype}, not numbers")
        return [None] * len(columns)
    if not _says_classes(estimator) and all(column.dtype.kind == "f" for column in columns):
        return [None] * len(columns)
    known = _known_classes(estimator, columns)
    for classes, column in zip(known, columns, strict=True):
        _check_classes(classes, column)
    return list(known)


def describe_outputs(
    names: Sequence[str], classes: Sequence[Classes | None], predictions: NDArray[Any]
) -> list[Output]:
    """The manifest's outputs, with the distributions of these predictions as reference."""
    columns = Answers(predictions).columns()
    return [
        Output(name=name, kind="number", reference=numeric_reference(column.astype(np.float64)))
        if known is None
        else Output(name=name, kind="class", classes=known, reference=class_reference(column, known))
        for name, known, column in zip(names, classes, columns, strict=True)
    ]


def first_difference(expected: Answers, found: Answers) -> int | None:
    """The first row of which two answers differ: in a class at all, in a number by more than rounding."""
    n = len(expected.predictions)
    if expected.predictions.shape != found.predictions.shape:
        return 0
    differs = np.zeros(n, dtype=bool)
    pairs = list(zip(expected.columns(), found.columns(), strict=True))
    pairs += zip(expected.probabilities or [], found.probabilities or [], strict=True)
    for one, other in pairs:
        if one.dtype.kind == "f" and other.dtype.kind == "f":
            unequal = ~np.isclose(one, other, rtol=TOLERANCE, atol=TOLERANCE)
        else:
            unequal = one != other
        differs |= unequal.reshape(n, -1).any(axis=1)
    return int(np.argmax(differs)) if differs.any() else None


def _says_classes(estimator: Any) -> bool:
    return (
        is_classifier(estimator)
        or is_clusterer(estimator)
        or is_outlier_detector(estimator)
        or hasattr(estimator, "classes_")
    )


def _known_classes(estimator: Any, columns: list[NDArray[Any]]) -> list[Classes]:
    if is_outlier_detector(estimator):
        return [[-1, 1]] * len(columns)
    classes = getattr(estimator, "classes_", None)
    if classes is not None and len(columns) == 1:
        return [np.asarray(classes).tolist()]
    if isinstance(classes, list) and len(classes) == len(columns):
        return [np.asarray(each).tolist() for each in classes]
    seen = [set(column.tolist()) for column in columns]
    if classes is not None:
        # Multi-label: classes_ names the labels, each of which a row has or has not.
        return [sorted(each | {0, 1}) for each in seen]
    final = estimator[-1] if hasattr(estimator, "steps") else estimator
    # Clusters and components are counted from 0; some may hold none of these rows.
    centers = getattr(final, "cluster_centers_", getattr(final, "weights_", ()))
    labels = set(np.asarray(getattr(final, "labels_", [])).tolist())
    try:
        return [sorted(each | labels | set(range(len(centers)))) for each in seen]
    except TypeError:
        raise NotExportable(f"it predicts a mixture of types: {sorted(map(repr, seen[0]))[:5]}") from None


def _check_classes(classes: Classes, predictions: NDArray[Any]) -> None:
    shown = ", ".join(map(repr, classes[:5]))
    if all(isinstance(each, float) and each.is_integer() for each in classes):
        raise NotExportable(f"its classes are decimal numbers ({shown}): fit it on y.astype(int), texts or booleans")
    if not all(isinstance(each, (str, int)) for each in classes):
        raise NotExportable(f"its classes must be texts, integers or booleans, and are {shown}")
    known = {(type(each), each) for each in classes}
    strange = {(type(each), each) for each in predictions.tolist()} - known
    if strange:
        raise NotExportable(f"it predicts {next(iter(strange))[1]!r}, which is none of its classes ({shown})")
