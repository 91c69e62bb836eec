"""The form, array or data frame, in which an estimator takes rows."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd

from headrace.data.advice import DATES, DURATIONS
from headrace.data.attributes import explained, fitted_names, unusable
from headrace.data.predictions import first_difference, predict
from headrace.errors import NotExportable

TRIED_ROWS_MAX = 100

COMPARED_ROWS_MAX = 1_000

NOT_THOSE = "the columns of X are not those of the fit"


@contextmanager
def silent_about_names() -> Iterator[None]:
    """Keep scikit-learn from warning at each prediction that rows have names, or have none: `fitted_form` has seen it.

    Also a decorator.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "X (has|does not have valid) feature names", UserWarning)
        yield


def fitted_form(
    estimator: Any, rows: Any, feature_names: Sequence[str] | None = None
) -> tuple[Any, NotExportable | None]:
    """Return the rows as an array or as a data frame with unique names, whichever the estimator takes.

    The form of `rows` is tried first. scikit-learn warns if an estimator gets a frame and was fitted on an array, or
    the other way round; then the other form is better. Where it warns of an array and refuses the frame, the refusal
    stands: an array would only hide what is wrong, such as the order of the columns.

    Returns:
        The rows, and the reasons why the estimator predicts neither form, if so: a column may be to blame.

    Raises:
        NotExportable: if `rows` are not a table, or a frame whose columns are not those of the fit.
    """
    names = fitted_names(estimator)
    forms = _forms(rows, names, feature_names)
    with explained("predict"):
        if not hasattr(estimator, "predict"):
            return forms[0], None
    if names is not None and isinstance(rows, pd.DataFrame) and list(rows.columns) != names:
        _check_found_by_name(estimator, rows, names)
        return rows, None
    doubtful, reasons = [], []
    for given in forms:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                predict(estimator, given[:TRIED_ROWS_MAX], probabilities=False)
            except NotExportable as error:
                reasons.append(str(error))
                continue
        if not any("feature names" in str(each.message) for each in caught):
            return given, None
        doubtful.append(given)
    if doubtful and not (reasons and isinstance(doubtful[0], np.ndarray)):
        return doubtful[0], None
    if len(set(reasons)) < 2:
        return forms[0], NotExportable(reasons[0])
    kinds = ["a data frame" if isinstance(given, pd.DataFrame) else "an array" for given in forms]
    reason = "; ".join(f"from {kind}, {reason}" for kind, reason in zip(kinds, reasons, strict=True))
    return forms[0], NotExportable(reason)


def _check_found_by_name(estimator: Any, frame: Any, names: list[str]) -> None:
    """Check that an estimator finds columns by name, so that it predicts the same from them as from those of the fit.

    A ColumnTransformer does so: it takes columns in any order, and does without those that it drops.

    Raises:
        NotExportable: if it does not; the message names the first difference.
    """
    rows = frame[:: -(-len(frame) // COMPARED_ROWS_MAX)]
    with warnings.catch_warnings(), explained("predict_proba"):
        warnings.simplefilter("ignore")
        shares = hasattr(estimator, "predict_proba")
        try:
            found = predict(estimator, rows, probabilities=shares)
            expected = predict(estimator, rows.reindex(columns=names), probabilities=shares)
            same = first_difference(expected, found) is None
        except NotExportable:
            same = False
    if not same:
        raise NotExportable(_difference(list(frame.columns), names))


def _difference(found: list[Any], fitted: list[str]) -> str:
    """Return a sentence on the first column that is not as at the fit, and the remedy."""
    known, given = set(fitted), set(found)
    absent = [name for name in fitted if name not in given]
    strange = [name for name in found if name not in known]
    if absent:
        instead = f", and has a column {strange[0]!r}, which was not there" if strange else ""
        return f"{NOT_THOSE}: X has no column {absent[0]!r}{instead}. Pass the frame that the estimator was fitted on"
    if strange:
        reason = f"X has a column {strange[0]!r}, which was not there"
    else:
        at = next(at for at, name in enumerate(fitted) if found[at] != name)
        reason = f"their order is another, column {at} is {found[at]!r} and was {fitted[at]!r}"
    return f"{NOT_THOSE}: {reason}. Pass X[list(estimator.feature_names_in_)]"


def _forms(rows: Any, names: list[str] | None, feature_names: Sequence[str] | None) -> list[Any]:
    """Return the rows in the forms that may be meant, the given form first."""
    if hasattr(rows, "tocsr"):
        raise NotExportable("X is sparse: rows arrive dense, so fit on X.toarray(), or vectorize inside of a Pipeline")
    if isinstance(rows, pd.DataFrame):
        _check_frame(rows)
        array = [] if (dtype := _array_dtype(rows)) is None else [_as_array(rows, dtype)]
        if all(isinstance(name, str) for name in rows.columns):
            return [rows, *array]
        if not array:
            raise NotExportable(
                "the columns of X are not named by text: X.columns = X.columns.astype(str) before fitting"
            )
        return array
    array_given = _read_array(rows)
    n_columns = array_given.shape[1]
    if names is None:
        if feature_names is not None and len(feature_names) != n_columns:
            raise NotExportable(f"{len(feature_names)} feature names for {n_columns} columns")
        return [array_given]
    # A frame of another library than pandas, such as Polars.
    if hasattr(rows, "columns") and list(rows.columns) != names:
        raise NotExportable(_difference(list(rows.columns), names))
    if len(names) != n_columns:
        raise unusable("feature_names_in_", f"it has {len(names)} names, and X has {n_columns} columns")
    return [array_given, pd.DataFrame(array_given, columns=names)]


def _check_frame(frame: Any) -> None:
    if 0 in frame.shape:
        raise NotExportable(f"X has shape {frame.shape}, expected (n rows, n features) with at least one of each")
    if not frame.columns.is_unique:
        raise NotExportable("feature names repeat")


def _array_dtype(frame: Any) -> Any:
    """Return the dtype of an array that holds all columns; None if some are not numbers."""
    dtypes = [getattr(each, "numpy_dtype", each) for each in frame.dtypes]
    if not all(isinstance(each, np.dtype) and each.kind in "iuf" for each in dtypes):
        return None
    return np.dtype(np.float64) if frame.isna().to_numpy().any() else np.result_type(*dtypes)


def _as_array(frame: Any, dtype: Any) -> Any:
    return frame.to_numpy(dtype=dtype, na_value=np.nan) if dtype.kind == "f" else frame.to_numpy(dtype=dtype)


def texts_alone(rows: Any) -> Any:
    """Return rows that are one text each as a series or an array of objects, or None if they are other rows."""
    if isinstance(rows, pd.Series):
        return rows if pd.api.types.infer_dtype(rows, skipna=True) == "string" else None
    one_dimension = isinstance(rows, (list, tuple)) or (isinstance(rows, np.ndarray) and rows.ndim == 1)
    if not one_dimension or not len(rows) or not all(isinstance(each, str) for each in rows):
        return None
    texts = np.empty(len(rows), dtype=object)
    texts[:] = [str(each) for each in rows]
    return texts


def _read_array(rows: Any) -> Any:
    values = np.asarray(rows)
    if values.dtype.kind in "mM":
        raise NotExportable(f"X holds {values.dtype}. {DATES if values.dtype.kind == 'M' else DURATIONS}")
    if values.dtype.kind not in "biufO" or any(isinstance(each, str) for each in values.ravel().tolist()[:1000]):
        raise NotExportable(
            "X holds text: pass a pandas DataFrame with a name for each column, and select columns by name "
            "(ColumnTransformer) inside of a Pipeline"
        )
    if values.ndim != 2 or 0 in values.shape:
        raise NotExportable(f"X has shape {values.shape}, expected (n rows, n features) with at least one of each")
    if values.dtype.kind != "O" and values.dtype.itemsize <= 8:
        return values.astype(values.dtype.newbyteorder("="), copy=False)
    try:
        return values.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise NotExportable(f"X can't be read as numbers: {error}") from None
