"""The conversions of rows by the SDK and by the worker are the same; neither may import the other."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from headrace.data.rows import PANDAS_HAS_STR, Layout, Rows, estimator_input, rows_by_dtypes
from headrace.data.table import read_table
from headrace.models.manifest import Artifact, Feature, Manifest, Output, Reference, Sample
from tests.support.estimators import CASES, people
from tests.support.exported import Exported, fitted
from worker.model.rows import MixedRows, row_converter

NUMBER = Reference(bins=["00", "01"], ratios=[0.5, 0.5], edges=[0.0])
TEXT = Reference(bins=["a", "other"], ratios=[0.5, 0.5])


def number(name: str, dtype: str) -> Feature:
    return Feature(name=name, dtype=dtype, minimum=0, maximum=1, histogram_edges=[0.0, 1.0], reference=NUMBER)


def text(name: str, dtype: str, **more: Any) -> Feature:
    return Feature(name=name, type="string", dtype=dtype, reference=TEXT, **more)


def boolean(name: str, dtype: str, **more: Any) -> Feature:
    return Feature(name=name, type="boolean", dtype=dtype, reference=TEXT, **more)


FEATURES = [
    number("f64", "float64"),
    number("f32", "float32"),
    number("i64", "int64"),
    number("i8", "int8"),
    number("u16", "uint16"),
    text("object", "object", null_as="none"),
    text("object_nan", "object"),
    text("str", "str"),
    text("string", "string"),
    text("category", "category", categories=["b", "a"]),
    boolean("bool", "bool"),
    boolean("boolean", "boolean"),
    boolean("boolean_none", "object", null_as="none"),
    boolean("boolean_nan", "object"),
]

FULL = [0.1, 0.1, 7, 7, 7, "a", "a", "a", "a", "a", True, True, True, True]
NULLS = [None, None, None, None, None, None, None, None, None, None, False, None, None, None]
STRANGE = [1e300, 1e300, 1.5, 300, -1, "", "None", "nan", "é", "unseen", False, False, False, False]


def both(rows: Rows, features: list[Feature], form: Any) -> tuple[Any, Any]:
    """The input of the estimator as the SDK and as the worker convert it."""
    manifest = Manifest(
        name="m",
        version="v1",
        created_at="2026-11-23T12:45:00+00:00",
        estimator="sklearn.dummy.DummyClassifier",
        artifact=Artifact(file="model.pkl", format="joblib", sha256="0" * 64, size_bytes=1),
        libraries={},
        features=features,
        input=form,
        outputs=[Output(kind="class", classes=["a"], reference=TEXT)],
        training_rows=1,
        scores={},
        samples=[Sample(row=[None] * len(features), prediction="a")],
    )
    return estimator_input(rows, Layout(form, features)), row_converter(manifest)([list(row) for row in rows])


@pytest.mark.parametrize(
    "rows",
    [[FULL], [NULLS], [STRANGE], [NULLS, STRANGE], [FULL, FULL]],
    ids=["full", "nulls", "strange", "odd", "two"],
)
def test_frames_are_the_same(rows: list[list[Any]]) -> None:
    of_training, of_worker = both(rows, FEATURES, "frame")

    pd.testing.assert_frame_equal(of_training, of_worker, check_exact=True)
    for name in of_training.columns:
        # assert_frame_equal takes None for NaN.
        assert [type(value) for value in of_training[name].tolist()] == [
            type(value) for value in of_worker[name].tolist()
        ]


def test_arrays_are_the_same() -> None:
    of_training, of_worker = both([[1, 2.5], [None, True]], [number("x", "float64"), number("y", "float64")], "array")

    np.testing.assert_array_equal(of_training, of_worker)
    assert of_training.dtype == of_worker.dtype == np.float64


@pytest.mark.parametrize("kind", ["mixed frame", "prose", "frame of numbers", "boosting by dtype"])
def test_the_training_rows_come_back_as_they_were(kind: str) -> None:
    case = CASES[kind]()
    table = read_table(case.estimator, case.X)
    manifest_features = [_described(column) for column in table.columns]

    again = estimator_input(table.rows(list(range(len(table)))), Layout(table.form, manifest_features))

    pd.testing.assert_frame_equal(again, case.X, check_exact=True)


def _described(column: Any) -> Feature:
    from headrace.data.features import describe

    return describe(column)


def test_a_whole_number_stays_whole_and_a_fraction_does_not() -> None:
    feature = Layout("frame", [number("age", "int64")])

    assert estimator_input([[1], [2.0]], feature)["age"].dtype == np.int64
    assert estimator_input([[2.5]], feature)["age"].tolist() == [2.5]
    assert estimator_input([[300]], Layout("frame", [number("age", "int8")]))["age"].tolist() == [300.0]


def test_rows_that_change_different_columns_are_converted_apart() -> None:
    features = [number("i64", "int64"), text("word", "object"), number("f32", "float32"), number("i8", "int8")]
    whole: list[Any] = [1, "a", 0.1, 2]
    fraction: list[Any] = [1.5, "b", 0.1, 2]
    large: list[Any] = [1, None, 1e9, 300]
    rows: list[list[Any]] = [whole, fraction, large, [1.5, "a", 1, 300], whole, fraction, [None, "a", None, 2]]

    groups = rows_by_dtypes(rows, features)

    assert sorted(groups) == [[0, 4], [1, 5, 6], [2], [3]]
    for group in groups:
        of_training, of_worker = both([rows[at] for at in group], features, "frame")
        pd.testing.assert_frame_equal(of_training, of_worker, check_exact=True)
        for at in group:
            alone, _ = both([rows[at]], features, "frame")
            assert alone.dtypes.tolist() == of_worker.dtypes.tolist()
    with pytest.raises(MixedRows) as mixed:
        both(rows, features, "frame")
    assert mixed.value.held.tolist() == [True, False, True, False, True, False, False]


def test_null_in_text_is_what_it_was_in_training() -> None:
    frame = estimator_input([NULLS], Layout("frame", FEATURES))

    assert frame["object"].iloc[0] is None
    assert np.isnan(frame["object_nan"].iloc[0])
    assert np.isnan(frame["str"].iloc[0])
    assert frame["string"].iloc[0] is pd.NA
    assert str(frame["str"].dtype) == ("str" if PANDAS_HAS_STR else "object")


def test_exports_of_frames_agree_with_the_conversion(exported: Exported) -> None:
    frame, _ = people(40)

    _, manifest = exported("mixed frame")

    rows = read_table(fitted("mixed frame").estimator, frame).rows(list(range(40)))
    pd.testing.assert_frame_equal(
        estimator_input(rows, Layout.of(manifest)), row_converter(manifest)(rows), check_exact=True
    )
