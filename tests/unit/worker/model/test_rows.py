from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pytest

from headrace.data.rows import Layout, estimator_input
from headrace.models.manifest import Feature, Manifest, Reference
from headrace.models.store import ModelStore
from shared.queue.contract import Row
from shared.queue.packed_rows import packed
from tests.support.estimators import CASES
from tests.unit.worker.conftest import rows_of
from worker.model.rows import join_rows, row_converter, unpack_rows

Exported = Callable[[str], tuple[ModelStore, Manifest]]

FRAMES = ["boosting by dtype", "frame of numbers", "mixed frame", "mixed frame by dtype", "prose"]


FORMS = {"texts of a series": "series", "texts of a list": "texts"}

MakeColumn = Callable[..., Any]


@pytest.fixture
def column(exported: Exported) -> MakeColumn:
    """A function that makes the data frame column of a feature from values."""
    _, template = exported("ridge")
    return partial(make_column, template)


def make_column(template: Manifest, values: list[Any], **kind: Any) -> Any:
    nullable = None in values
    bins = {"bins": ["a", "missing"], "ratios": [0.5, 0.5]} if nullable else {"bins": ["a"], "ratios": [1]}
    if kind["type"] == "number":
        kind |= {"minimum": 0.0, "maximum": 1.0, "histogram_edges": [0.0, 1.0]}
        bins |= {"edges": []}
    feature = Feature(name="x", nullable=nullable, reference=Reference.model_validate(bins), **kind)
    manifest = template.model_copy(update={"input": "frame", "features": [feature]})
    rows = [[value] for value in values]
    made = row_converter(manifest)(rows)
    pd.testing.assert_frame_equal(made, estimator_input(rows, Layout("frame", [feature])))
    return made["x"]


@pytest.mark.parametrize("case", CASES)
def test_rows_become_what_the_estimator_was_exported_with(exported: Exported, case: str) -> None:
    _, manifest = exported(case)
    rows = rows_of(manifest)

    made, expected = row_converter(manifest)(rows), estimator_input(rows, Layout.of(manifest))

    assert manifest.input == FORMS.get(case, "frame" if case in FRAMES else "array")
    if manifest.input == "frame":
        pd.testing.assert_frame_equal(made, expected)
    elif manifest.input == "series":
        pd.testing.assert_series_equal(made, expected)
    else:
        assert made.dtype == expected.dtype
        np.testing.assert_array_equal(made, expected)


def test_null_is_nan_in_an_array(exported: Exported) -> None:
    made = row_converter(exported("ridge")[1])([[1, None], [2.5, 3]])

    assert made.dtype == np.float64
    np.testing.assert_array_equal(made, [[1.0, np.nan], [2.5, 3.0]])


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        ([1, 2.5], "float64", "float64"),
        ([1, None], "float64", "float64"),
        ([1, 2.0], "int64", "int64"),
        ([1.5, 2.5], "int64", "float64"),
        ([1e300, None], "int64", "float64"),
        ([300, -129], "int8", "float64"),
        ([1, 2], "uint8", "uint8"),
        ([-1, -2], "uint8", "float64"),
        ([1, 0.1], "float32", "float32"),
        ([1, 1e300], "float32", "float32"),
    ],
)
def test_numbers_keep_the_dtype_of_training_where_it_can_hold_them(
    column: MakeColumn, values: list[Any], dtype: str, expected: str
) -> None:
    made = column(values, type="number", dtype=dtype)

    assert made.dtype == expected
    if expected == "float64":
        np.testing.assert_array_equal(made, np.asarray(values, dtype=np.float64))


def test_booleans(column: MakeColumn) -> None:
    assert column([True, False], type="boolean", dtype="bool").dtype == "bool"
    assert column([True, None], type="boolean", dtype="boolean").tolist() == [True, pd.NA]
    assert column([True, None], type="boolean", dtype="object", null_as="none").tolist() == [True, None]
    with_nan = column([True, None], type="boolean", dtype="object", null_as="nan").tolist()
    assert with_nan[0] is True
    assert np.isnan(with_nan[1])


def test_texts(column: MakeColumn) -> None:
    none = column(["a", None], type="string", dtype="object", null_as="none")
    assert (none.dtype, none.tolist()) == ("object", ["a", None])
    nan = column(["a", None], type="string", dtype="object", null_as="nan")
    assert (nan.dtype, nan.isna().tolist(), nan[1] is None) == ("object", [False, True], False)
    text = column(["a", None], type="string", dtype="str")
    assert (text[0], text.isna().tolist(), text[1] is None) == ("a", [False, True], False)
    assert column(["a", None], type="string", dtype="string").tolist() == ["a", pd.NA]


def test_categories_are_those_of_training_in_their_order(column: MakeColumn) -> None:
    made = column(["b", None, "a"], type="string", dtype="category", categories=["b", "a", "c"])

    assert made.cat.categories.tolist() == ["b", "a", "c"]
    assert made.cat.codes.tolist() == [0, -1, 1]


def test_a_text_that_is_no_category_is_missing(exported: Exported) -> None:
    _, manifest = exported("boosting by dtype")
    row = rows_of(manifest)[0]

    made = row_converter(manifest)([[*row[:2], "never seen"]])

    assert made["plan"].isna().all()


def test_no_rows_of_other_length_are_taken(exported: Exported) -> None:
    convert = row_converter(exported("mixed frame")[1])

    with pytest.raises(ValueError, match="zip"):
        convert([[1.0, 2.0]])
    with pytest.raises(ValueError, match="zip"):
        convert([[1.0], [1.0, 2.0]])


def test_packed_rows_become_what_rows_become_and_are_not_written_to(exported: Exported) -> None:
    manifests = [exported(case)[1] for case in CASES]
    numeric = [each for each in manifests if all(feature.type == "number" for feature in each.features)]
    assert {manifest.input for manifest in numeric} == {"array", "frame"}
    for manifest in numeric:
        rows = [[0.0 if value is None else value for value in row] for row in rows_of(manifest)]
        unpacked: Any = unpack_rows(packed(rows), [len(rows)])
        kept, convert = unpacked.copy(), row_converter(manifest)
        made, expected = convert(unpacked), convert(rows)
        if manifest.input == "frame":
            pd.testing.assert_frame_equal(made, expected)
            made.iloc[:, :] = 0
        else:
            np.testing.assert_array_equal(made, expected)
            made[:] = 0.0
        np.testing.assert_array_equal(unpacked, kept)


def test_parts_of_either_kind_are_put_together() -> None:
    rows: list[Row] = [[1.0, 2.0], [3.0, 4.0]]
    unpacked = unpack_rows(packed(rows), [2])

    assert join_rows([rows, rows[:1]]) == [*rows, rows[0]]
    assert np.asarray(join_rows([unpacked[1:], unpacked])).tolist() == [rows[1], *rows]
