from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder
from sklearn.tree import DecisionTreeClassifier

from headrace import export
from headrace.exporting.exported import Exported
from headrace.models.manifest import Feature, Manifest

TOWNS = pd.DataFrame({"town": ["Bonn", "Kiel", "Ulm", "Jena"] * 10, "age": np.arange(40.0)})
IS_OLD = np.arange(40) > 20


def exported(folder: Path, estimator: Any, rows: Any = TOWNS) -> Exported:
    return export(estimator.fit(rows, IS_OLD), rows, name="towns", store=folder)


def encoded(encoder: Any) -> Any:
    return make_pipeline(make_column_transformer((encoder, ["town"]), remainder="passthrough"), LogisticRegression())


def feature(result: Exported, name: str) -> Feature:
    return next(each for each in result.manifest.features if each.name == name)


@pytest.mark.parametrize("encoder", [OneHotEncoder(), OrdinalEncoder()])
def test_an_encoder_that_refuses_unknown_texts_is_told_and_its_texts_are_listed(tmp_path: Path, encoder: Any) -> None:
    result = exported(tmp_path, encoded(encoder))

    assert sorted(feature(result, "town").known or ()) == ["Bonn", "Jena", "Kiel", "Ulm"]
    assert feature(result, "town").refuses_unknown
    [notice] = result.notices
    assert notice.startswith("town: the estimator raises for texts that it has not seen")
    assert "handle_unknown" in notice


def test_an_encoder_that_takes_unknown_texts_has_no_list(tmp_path: Path) -> None:
    result = exported(tmp_path, encoded(OneHotEncoder(handle_unknown="ignore")))

    assert (feature(result, "town").known, feature(result, "town").refuses_unknown) == (None, False)
    assert result.notices == ()


def test_texts_of_single_rows_are_not_listed(tmp_path: Path) -> None:
    rows = TOWNS.assign(town=[*TOWNS.town[:-1], "a name"])
    result = exported(tmp_path, encoded(OneHotEncoder()), rows)

    assert (feature(result, "town").known, feature(result, "town").refuses_unknown) == (None, True)
    assert "a name" not in result.manifest.model_dump_json()


def test_categories_that_the_encoder_has_not_seen_are_not_among_the_known(tmp_path: Path) -> None:
    kind = pd.CategoricalDtype(["Bonn", "Kiel", "Ulm", "Jena", "Hof"])
    result = exported(tmp_path, encoded(OneHotEncoder()), TOWNS.astype({"town": kind}))

    assert feature(result, "town").known == ["Bonn", "Kiel", "Ulm", "Jena"]


def numbers(frame: Any) -> Any:
    """Return each text as the number that it holds."""
    return frame.astype(float)


def lowered(frame: Any) -> Any:
    """Return each text in lower case."""
    return frame.apply(lambda column: column.str.lower())


@pytest.mark.parametrize(
    ("texts", "steps"),
    [
        (["10", "12", "17", "20"], [FunctionTransformer(numbers)]),
        (["Bonn", "Kiel", "Ulm", "Jena"], [FunctionTransformer(lowered), OneHotEncoder()]),
        (["Bonn", "Kiel", "Ulm", "Jena"], [OneHotEncoder(categories=[["Bonn", "Hof", "Jena", "Kiel", "Ulm"]])]),
    ],
    ids=["numbers in texts", "any case", "more than in training"],
)
def test_there_is_no_list_where_the_estimator_takes_some_texts_that_training_had_not(
    tmp_path: Path, texts: list[str], steps: list[Any]
) -> None:
    rows = pd.DataFrame({"town": texts * 10})
    estimator = make_pipeline(*steps, LogisticRegression()).fit(rows, IS_OLD)
    result = export(estimator, rows, name="towns", store=tmp_path, samples="none", extra_modules=["tests"])

    assert (feature(result, "town").known, feature(result, "town").refuses_unknown) == (None, True)


def test_numbers_and_booleans_that_the_estimator_knows_are_listed(tmp_path: Path) -> None:
    rows = pd.DataFrame({"zip": [1000, 2000] * 20, "member": [True] * 40, "town": TOWNS.town})
    estimator = make_pipeline(
        make_column_transformer(
            (OneHotEncoder(), ["zip", "member"]), (OneHotEncoder(handle_unknown="ignore"), ["town"])
        ),
        LogisticRegression(),
    ).fit(rows, IS_OLD)
    result = export(estimator, rows, name="zips", store=tmp_path, samples="none")

    assert [each.known for each in result.manifest.features] == [[1000.0, 2000.0], [True], None]
    assert [notice.split(":")[0] for notice in result.notices] == ["zip", "member"]
    assert Manifest.model_validate_json(result.manifest.model_dump_json()) == result.manifest


def test_numbers_of_single_rows_are_not_listed(tmp_path: Path) -> None:
    rows = pd.DataFrame({"zip": [1000, 2000] * 19 + [2000, 3456]})
    estimator = make_pipeline(OneHotEncoder(), LogisticRegression()).fit(rows, IS_OLD)
    result = export(estimator, rows, name="zips", store=tmp_path, samples="none")

    assert (feature(result, "zip").known, feature(result, "zip").refuses_unknown) == (None, True)


def halved(values: Any) -> Any:
    return np.asarray(values).astype(np.float16)


NUMBERS = np.column_stack([np.arange(40.0), np.ones(40)])


@pytest.mark.parametrize(
    ("estimator", "magnitude"),
    [
        (DecisionTreeClassifier(), float(np.finfo(np.float32).max)),
        (make_pipeline(FunctionTransformer(halved), LogisticRegression()), 65504.0),
        (LogisticRegression(), None),
        (LinearRegression(), None),
    ],
)
def test_numbers_beyond_the_dtype_of_an_estimator_are_found(
    tmp_path: Path, estimator: Any, magnitude: float | None
) -> None:
    result = export(
        estimator.fit(NUMBERS, IS_OLD), NUMBERS, name="numbers", store=tmp_path, trusted=[], extra_modules=["tests"]
    )

    assert [each.magnitude for each in result.manifest.features] == [magnitude] * 2
