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
from headrace.models.manifest import Feature

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
