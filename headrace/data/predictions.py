"""Predictions of an estimator, and the outputs that the manifest describes from them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.data.attributes import explained, fitted_classes, one_dimension, unusable
from headrace.data.kinds import kind_of
from headrace.data.reference import class_reference, numeric_reference
from headrace.errors import NotExportable
from headrace.models.fields import LABEL_MAX
from headrace.models.manifest import Output

Classes = list[Any]

TOLERANCE = 1e-6
"""Largest relative or absolute difference between two numbers that count as the same prediction."""

PREDICTED_ROWS_MAX = 20_000
"""Number of training rows, evenly spaced, that are predicted for the reference of the outputs and for the checks."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """The predictions for n rows.

    Attributes:
        values: shape (n,), or (n, outputs) if there are several outputs.
        probabilities: one array of shape (n, classes) per output; None if they were not asked for.
    """

    values: NDArray[Any]
    probabilities: list[NDArray[np.float64]] | None = None

    def of_row(self, row: int) -> tuple[Any, Any]:
        """Return the prediction and the probabilities of a row, as the manifest's samples hold them."""
        # A slice, because a cell of an object array has no tolist().
        prediction = self.values[row : row + 1].tolist()[0]
        if self.probabilities is None:
            return prediction, None
        shares = [each[row].tolist() for each in self.probabilities]
        return prediction, shares if self.values.ndim == 2 else shares[0]

    @classmethod
    def concatenated(cls, parts: "Sequence[Predictions]") -> "Predictions":
        """Return the predictions of all parts, one part after another."""
        shares = [np.concatenate(each) for each in zip(*(part.probabilities or () for part in parts), strict=True)]
        return cls(np.concatenate([part.values for part in parts]), shares or None)

    def at(self, positions: Any) -> "Predictions":
        """Return the predictions of the rows at some positions, in the order of the positions."""
        shares = None if self.probabilities is None else [each[positions] for each in self.probabilities]
        return Predictions(self.values[positions], shares)

    def by_output(self) -> list[NDArray[Any]]:
        """Return the values of each output, shape (n,)."""
        return list(self.values.T) if self.values.ndim == 2 else [self.values]


def predict(estimator: Any, rows: Any, *, probabilities: bool) -> Predictions:
    """Call the estimator, and check that JSON can represent what it returns.

    Raises:
        NotExportable: if the estimator can't predict these rows, or returns values that JSON can't represent.
    """
    if not hasattr(estimator, "predict"):
        raise NotExportable(f"{type(estimator).__name__} has no predict: it can't predict a new row")
    try:
        raw = estimator.predict(rows)
        if hasattr(raw, "tocsr"):
            raise NotExportable("its predictions are sparse: fit it on a dense y")
        predictions = np.asarray(raw)
        shares = estimator.predict_proba(rows) if probabilities else None
        by_output = None if shares is None else _by_output(shares, several=_is_wide(predictions))
    except NotExportable:
        raise
    except Exception as error:
        raise NotExportable(f"it can't predict its own training rows: {type(error).__name__}: {error}") from error
    if predictions.ndim == 2 and predictions.shape[1] == 1:
        predictions = predictions[:, 0]
    if predictions.ndim not in (1, 2) or len(predictions) != len(rows) or predictions.size == 0:
        raise NotExportable(f"its predictions have shape {predictions.shape} for {len(rows)} rows")
    if predictions.dtype.kind == "f" and not np.isfinite(predictions).all():
        raise NotExportable("it predicts NaN or infinity for training rows, which JSON can't represent")
    _check_objects(predictions)
    for each in by_output or ():
        if each.shape[:1] != (len(rows),):
            raise NotExportable(f"its probabilities have shape {each.shape} for {len(rows)} rows")
    return Predictions(predictions, by_output)


def has_probabilities(estimator: Any, rows: Any, classes: Sequence[Classes | None]) -> bool:
    """Tell whether `predict_proba` works and returns one probability per class and output.

    Only a call can tell: some estimators have the method and raise in it, and multi-label classifiers return another
    shape.
    """
    try:
        if not hasattr(estimator, "predict_proba"):
            return False
        shares = _by_output(estimator.predict_proba(rows), several=len(classes) > 1)
        are_finite = all(bool(np.isfinite(each).all()) for each in shares)
    except Exception:
        return False
    if len(classes) == 1 and kind_of(estimator) == "classifier" and fitted_classes(estimator) == [*classes]:
        _, n_shares = shares[0].shape if shares[0].ndim == 2 else (0, 0)
        if n_shares > 1 and n_shares != len(classes[0] or ()):
            raise unusable("classes_", f"it has {len(classes[0] or ())} classes, and predict_proba {n_shares} columns")
    return (len(shares) == len(classes) and are_finite) and all(
        known is not None and each.shape == (len(rows), len(known)) and each.dtype.kind in "biuf"
        for each, known in zip(shares, classes, strict=True)
    )


def _is_wide(predictions: NDArray[Any]) -> bool:
    return predictions.ndim == 2 and predictions.shape[1] != 1


def _check_objects(predictions: NDArray[Any]) -> None:
    """Check that an array of objects holds none that are no values, such as lists and dictionaries.

    Raises:
        NotExportable: if it does.
    """
    if predictions.dtype.kind != "O":
        return
    for each in predictions.ravel().tolist():
        try:
            hash(each)
        except Exception:
            raise NotExportable(f"it predicts a {type(each).__name__}, which is no value of JSON") from None


def _by_output(shares: Any, *, several: bool) -> list[NDArray[np.float64]]:
    return [np.asarray(each) for each in (shares if several else [shares])]


def output_classes(estimator: Any, predictions: NDArray[Any]) -> list[Classes | None]:
    """Return the classes of each output in the order of their probabilities; None for an output of numbers.

    Raises:
        NotExportable: if the classes are neither texts nor integers nor booleans, or a prediction is not one of them.
    """
    columns = Predictions(predictions).by_output()
    if kind_of(estimator) == "regressor":
        for column in columns:
            if column.dtype.kind not in "iuf":
                raise NotExportable(f"it is a regressor and predicts {column.dtype}, not numbers")
        return [None] * len(columns)
    says_classes = kind_of(estimator) is not None or hasattr(estimator, "classes_")
    if not says_classes and all(column.dtype.kind == "f" for column in columns):
        return [None] * len(columns)
    known = [_whole(classes) for classes in _known_classes(estimator, columns)]
    for classes, column in zip(known, columns, strict=True):
        _check_classes(classes, as_classes(column, classes))
    return list(known)


def as_classes(predictions: NDArray[Any], classes: Classes | None) -> NDArray[Any]:
    """Return the predictions of an output in the type of its classes: some estimators predict 1.0 for 1 and for true.

    Workers do the same (`worker.model.predictions`).
    """
    if predictions.dtype.kind != "f" or not classes or not isinstance(classes[0], int):
        return predictions
    cast = predictions.astype(type(classes[0]))
    return cast if np.array_equal(cast, predictions) else predictions


def describe_outputs(
    names: Sequence[str], classes: Sequence[Classes | None], predictions: NDArray[Any]
) -> list[Output]:
    """Describe the outputs for the manifest; the distributions of these predictions become the reference."""
    columns = Predictions(predictions).by_output()
    return [
        Output(name=name, kind="number", reference=numeric_reference(column.astype(np.float64)))
        if known is None
        else Output(name=name, kind="class", classes=known, reference=class_reference(column, known))
        for name, known, column in zip(names, classes, columns, strict=True)
    ]


def first_difference(expected: Predictions, found: Predictions) -> int | None:
    """Return the first row whose predictions differ; numbers may differ by rounding.

    They may differ by TOLERANCE, or by a thousand times the precision of their dtype if that is more.
    """
    n = len(expected.values)
    if expected.values.shape != found.values.shape:
        return 0
    differs = np.zeros(n, dtype=bool)
    pairs = list(zip(expected.by_output(), found.by_output(), strict=True))
    pairs += zip(expected.probabilities or [], found.probabilities or [], strict=True)
    for one, other in pairs:
        if one.dtype.kind == "f" and other.dtype.kind == "f":
            tolerance = max(TOLERANCE, *(1e3 * float(np.finfo(each.dtype).eps) for each in (one, other)))
            unequal = ~np.isclose(one, other, rtol=tolerance, atol=tolerance)
        else:
            unequal = one != other
        differs |= unequal.reshape(n, -1).any(axis=1)
    return int(np.argmax(differs)) if differs.any() else None


def _known_classes(estimator: Any, columns: list[NDArray[Any]]) -> list[Classes]:
    if kind_of(estimator) == "outlier detector":
        return [[-1, 1]] * len(columns)
    classes = fitted_classes(estimator)
    if classes is not None and len(classes) == len(columns):
        return classes
    seen = [set(column.tolist()) for column in columns]
    try:
        if classes is None:
            others = _numbered(estimator, columns[0])
            return [sorted(each | others) for each in seen]
        if len(classes) > 1 or len(columns) == 1:
            raise unusable("classes_", f"it has the classes of {len(classes)} outputs, and there are {len(columns)}")
        # Multi-label: `classes_` lists the labels; for each of them a row has a 0 or a 1.
        return [sorted(each | {0, 1}) for each in seen]
    except TypeError:
        raise NotExportable(f"it predicts a mixture of types: {sorted(map(repr, seen[0]))[:5]}") from None


def _numbered(estimator: Any, predictions: NDArray[Any]) -> set[Any]:
    """Return the clusters or components of an estimator, some of which may contain no row, and the labels that it gave.

    Clusters and components are numbered from 0.
    """
    with explained("steps"):
        final = estimator[-1] if hasattr(estimator, "steps") else estimator
    numbers: set[Any] = set()
    for name in ("weights_", "cluster_centers_"):
        with explained(name):
            centers = getattr(final, name, None)
            numbers = numbers if centers is None else set(range(len(centers)))
    with explained("labels_"):
        labels = one_dimension("labels_", np.asarray(getattr(final, "labels_", [])))
        if {type(each) for each in labels} - {type(each) for each in predictions.tolist()}:
            raise unusable("labels_", "it holds values of other types than the predictions")
        return numbers.union(labels)


def _whole(classes: Classes) -> Classes:
    """Return classes such as 1.0 as integers: in JSON they are the same number."""
    if all(isinstance(each, float) and each.is_integer() and abs(each) < 2**53 for each in classes):
        return [int(each) for each in classes]
    return classes


def _check_classes(classes: Classes, predictions: NDArray[Any]) -> None:
    shown = ", ".join(map(repr, classes[:5]))
    if not all(isinstance(each, (str, int)) for each in classes):
        raise NotExportable(
            f"its classes must be texts, whole numbers or booleans, and are {shown}: fit it on y.astype(str), or a "
            "regressor if they are amounts"
        )
    if any(isinstance(each, str) and len(each) > LABEL_MAX for each in classes):
        raise NotExportable(f"it has a class of more than {LABEL_MAX:,} characters: fit it on shorter names")
    known = {(type(each), each) for each in classes}
    strange = {(type(each), each) for each in predictions.tolist()} - known
    if strange:
        raise NotExportable(f"it predicts {next(iter(strange))[1]!r}, which is none of its classes ({shown})")
