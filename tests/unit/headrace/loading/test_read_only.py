"""No step of a model changes an array of another one, whose numbers native code follows."""

import pickle
from typing import Any

import joblib
import numpy as np
import pytest
import skops.io
from sklearn.base import BaseEstimator
from sklearn.ensemble import GradientBoostingRegressor, StackingClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.svm import SVC

from headrace.errors import ArtifactInvalid
from headrace.loading.archive import load_skops
from headrace.loading.fitted.plain_values import NAMES, check_plain_values
from headrace.loading.fitted.read_only import freeze_arrays
from headrace.loading.parts import parts
from headrace.loading.unpickler import unpickle

WIDTH = 3
ROW = np.zeros((1, WIDTH))


class Own(BaseEstimator):  # type: ignore[misc]
    """An estimator of a trusted module."""


def hand_on(value: Any) -> list[Any]:
    """Steps that answer one row with an array of the artifact itself, as a row."""
    neighbours = KNeighborsClassifier(1, algorithm="brute").fit(np.arange(2.0 * WIDTH).reshape(2, WIDTH), [0, 1])
    asked = StackingClassifier([("k", neighbours)], LogisticRegression(), cv="prefit", stack_method="predict")
    asked.fit(ROW.repeat(2, axis=0), [0, 1])
    neighbours.classes_ = np.empty(2, object)
    neighbours.classes_[:] = [value, value]
    asked.estimators_, asked.stack_method_ = [neighbours], ["predict"]
    return [asked, FunctionTransformer(np.sum), FunctionTransformer(np.reshape, kw_args={"shape": (1, -1)})]


def put(old: Any, new: Any, width: int) -> SimpleImputer:
    """A step that replaces a number in the row that it gets."""
    imputer = SimpleImputer(missing_values=old, strategy="constant", fill_value=new, copy=False)
    imputer.fit(np.full((1, width), old))
    imputer.statistics_ = np.full(width, new)
    return imputer


def encoder(columns: Any) -> OneHotEncoder:
    encoder = OneHotEncoder(handle_unknown="ignore", min_frequency=1).fit(np.arange(3).reshape(-1, 1).repeat(3, axis=1))
    encoder._infrequent_enabled = True
    encoder._default_to_infrequent_mappings = [None, None, columns]
    encoder._infrequent_indices = [None, None, np.array([2])]
    return encoder


def test_the_columns_of_an_encoder_stay_as_they_were_checked() -> None:
    columns = np.arange(3)
    steps = [*hand_on(columns), put(2, 1, 3), encoder(columns)]
    model = make_pipeline(*steps, LinearRegression())
    freeze_arrays(model)

    assert model[:-2].transform(ROW).tolist() == [[0, 1, 1]]
    assert model[-2]._default_to_infrequent_mappings[2].tolist() == [0, 1, 2]


def test_the_counts_of_support_vectors_stay_as_they_were_checked() -> None:
    machine = SVC(kernel="linear").fit([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]], [0, 0, 1])
    counts = machine._n_support
    model = make_pipeline(*hand_on(counts), put(1, 0, 2), machine)
    freeze_arrays(model)

    assert model[:-1].transform(ROW).tolist() == [[0, 0]]
    assert model[-1]._n_support.tolist() == [1, 1]


@pytest.mark.parametrize("form", ["joblib", "skops"])
def test_all_arrays_that_an_artifact_holds_are_read_only(form: str) -> None:
    model = make_pipeline(StandardScaler(), KNeighborsClassifier()).fit(np.eye(9), range(9))
    model.steps[0][1].held_ = {"one": [(np.ones(2),)]}
    if form == "joblib":
        read, _ = unpickle(pickle.dumps(model))
    else:
        content = skops.io.dumps(model)
        read, _ = load_skops(content, skops.io.get_untrusted_types(data=content))

    scaler, neighbours = read[0], read[1]
    held = scaler.held_["one"][0][0]
    arrays = [scaler.mean_, scaler.scale_, held, neighbours._fit_X, neighbours._y, neighbours.classes_]
    assert not any(array.flags.writeable for array in arrays)
    assert read.predict(np.eye(9)).tolist() == model.predict(np.eye(9)).tolist()


def test_an_estimator_of_a_trusted_module_may_write_into_arrays_of_its_own_alone() -> None:
    own = Own()
    own.alone, own.within, own.twice, own.shared = np.ones(1), [np.ones(1)], np.ones(1), np.ones(1)
    own.again = [own.twice]
    own.step = StandardScaler()
    own.step.held_ = own.shared

    freeze_arrays(own)

    writeable = {name: array.flags.writeable for name, array in vars(own).items() if isinstance(array, np.ndarray)}
    assert writeable == {"alone": True, "twice": False, "shared": False}
    assert own.within[0].flags.writeable


def test_an_array_of_estimators_is_read_only_where_two_hold_it() -> None:
    boosting = GradientBoostingRegressor(n_estimators=2).fit(np.eye(4), range(4))
    other = StandardScaler()
    model = make_pipeline(other, boosting)
    freeze_arrays(model)
    assert boosting.estimators_.flags.writeable, "scikit-learn's compiled code asks for it"
    trees = [part for part in parts(boosting) if type(part).__name__ == "DecisionTreeRegressor"]
    assert len(trees) == 2

    other.held_ = [boosting.estimators_]
    freeze_arrays(model)
    assert not boosting.estimators_.flags.writeable


def test_a_container_that_two_hold_is_looked_into_twice_at_most() -> None:
    holder = np.empty(1, object)
    holder[0] = [np.ones(1)] * 1000
    own = Own()
    own.many = [holder] * 1000

    freeze_arrays(own)

    assert not holder.flags.writeable
    assert not holder[0][0].flags.writeable


def test_what_is_written_again_is_as_before() -> None:
    model = StandardScaler().fit(np.eye(3))
    content = pickle.dumps(model)

    read, _ = unpickle(content)

    assert joblib.hash(read) == joblib.hash(model)


INTERFACE = {"data": (64, True), "shape": (1,), "typestr": "<f8", "version": 3}


@pytest.mark.parametrize("within", ["classes", "a dictionary", "a list", "the name of a step", "an object of its own"])
def test_no_dictionary_describes_memory(within: str) -> None:
    model: Any = make_pipeline(StandardScaler(), LinearRegression()).fit(np.eye(3), range(3))
    held: dict[str, Any] = {
        "classes": np.array([INTERFACE, INTERFACE], object),
        "a dictionary": {"col": {"__array_interface__": INTERFACE}},
        "a list": [(1, [INTERFACE])],
        "the name of a step": [("__array_interface__", INTERFACE, [0])],
        "an object of its own": StandardScaler(with_mean=INTERFACE),
    }
    model[0].held_ = held[within]

    with pytest.raises(ArtifactInvalid, match="describes memory"):
        unpickle(pickle.dumps(model))


def test_a_word_of_a_vocabulary_describes_none() -> None:
    model = CountVectorizer().fit(["typestr shape data"])

    read, _ = unpickle(pickle.dumps(model))

    assert read.vocabulary_.keys() == {"typestr", "shape", "data"}


@pytest.mark.parametrize("value", [np.ones(2), {"a": 1}, [np.ones(2)], StandardScaler(), np.sum])
@pytest.mark.parametrize("name", NAMES)
def test_an_estimator_hands_on_plain_values_only(name: str, value: Any) -> None:
    part = KNeighborsClassifier()
    held = np.empty(2, object)
    held[:] = ["plain", None]
    setattr(part, name, [held, "plain", (1.5, np.float32(1))])
    check_plain_values(part)

    held[1] = value
    with pytest.raises(ArtifactInvalid, match=f"a {name} of other than plain values"):
        check_plain_values(part)


def test_a_model_that_hands_on_an_array_of_another_step_is_refused() -> None:
    model = make_pipeline(*hand_on(np.ones(2)), LinearRegression())

    with pytest.raises(ArtifactInvalid, match="KNeighborsClassifier has a classes_ of other than plain values"):
        unpickle(pickle.dumps(model))
