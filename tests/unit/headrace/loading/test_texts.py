"""Texts by which scikit-learn finds its way through attributes lead to no others than they should."""

import io
from collections.abc import Callable
from typing import Any

import joblib
import numpy as np
import pytest
import skops.io
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_selection import RFE, SelectFromModel
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from headrace.errors import ArtifactInvalid
from headrace.loading.archive import load_skops
from headrace.loading.unpickler import unpickle

ROWS = np.random.default_rng(0).normal(size=(30, 3))
CLASSES = ROWS[:, 0] > 0


def by_joblib(estimator: Any) -> Any:
    file = io.BytesIO()
    joblib.dump(estimator, file)
    return unpickle(file.getvalue())[0]


def by_skops(estimator: Any) -> Any:
    content = skops.io.dumps(estimator)
    return load_skops(content, skops.io.get_untrusted_types(data=content))[0]


FORMS = pytest.mark.parametrize("read", [by_joblib, by_skops])
Read = Callable[[Any], Any]


def selection(kind: Any = SelectFromModel) -> Any:
    return make_pipeline(kind(LogisticRegression()), LogisticRegression()).fit(ROWS, CLASSES)


def columns(**options: Any) -> Any:
    steps = [("scaled", StandardScaler(), [0, 1]), ("rest", "passthrough", [2])]
    return make_pipeline(ColumnTransformer(steps, **options), LogisticRegression()).fit(ROWS, CLASSES)


@FORMS
@pytest.mark.parametrize("kind", [SelectFromModel, RFE])
@pytest.mark.parametrize(
    "getter",
    [
        "coef_.ctypes._ctypes.cdll./a/library",
        "coef_.base",
        "coef_.T",
        "fit.__globals__",
        "coef_.__class__",
        "_private_",
        "named_steps.x.coef_.ctypes",
        "named_steps.x.y.coef_",
        "coef_\n",
        "",
        ".",
        np.str_("coef_.ctypes"),
    ],
)
def test_no_path_leads_from_the_weights_of_features_to_code(read: Read, kind: Any, getter: str) -> None:
    model = selection(kind)
    model[0].importance_getter = getter
    with pytest.raises(ArtifactInvalid):
        read(model)


@FORMS
@pytest.mark.parametrize("getter", ["auto", "coef_", "feature_importances_"])
def test_weights_of_an_estimator_choose_features(read: Read, getter: str) -> None:
    inner = RandomForestClassifier(3) if getter == "feature_importances_" else LogisticRegression()
    model = make_pipeline(SelectFromModel(inner, importance_getter=getter), LogisticRegression()).fit(ROWS, CLASSES)
    assert (read(model).predict(ROWS) == model.predict(ROWS)).all()


@FORMS
def test_weights_of_an_estimator_within_others_choose_features(read: Read) -> None:
    search = GridSearchCV(make_pipeline(StandardScaler(), LogisticRegression()), {}, cv=2)
    getter = "best_estimator_.named_steps.logisticregression.coef_"
    model = make_pipeline(SelectFromModel(search, importance_getter=getter), LogisticRegression()).fit(ROWS, CLASSES)
    assert (read(model).predict(ROWS) == model.predict(ROWS)).all()


@FORMS
@pytest.mark.parametrize(
    "names",
    [
        "{transformer_name.flat.base.ctypes._ctypes.cdll[/a/library.so]}{feature_name}",
        "{feature_name.__class__}",
        "{feature_name[0]}",
        "{feature_name:{transformer_name.real}}",
        "{0}",
        "{}",
        "{",
        np.str_("{feature_name.real}"),
    ],
)
def test_names_of_columns_are_made_of_names_alone(read: Read, names: str) -> None:
    model = columns()
    model[0].verbose_feature_names_out = names
    with pytest.raises(ArtifactInvalid):
        read(model)


@FORMS
@pytest.mark.parametrize("names", [True, False, "{feature_name}__{transformer_name!s}", "{{{feature_name}}}"])
def test_names_of_columns_have_a_format(read: Read, names: Any) -> None:
    model = columns(verbose_feature_names_out=names)
    assert (read(model).predict(ROWS) == model.predict(ROWS)).all()
    assert list(read(model)[0].get_feature_names_out()) == list(model[0].get_feature_names_out())
