"""The answer to a row is the same alone, in any batch and in any order."""

import logging
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder

from headrace import export
from headrace.models.manifest import Feature, Manifest
from headrace.models.store import ModelStore
from shared.queue.contract import Row
from shared.queue.packed_rows import packed
from tests.support.estimators import CASES
from tests.support.fuzzing import fuzzed
from tests.support.puppet import as_text
from tests.unit.worker.conftest import OURS, rows_of
from worker.model.predictions import Predictions
from worker.model.predictor import Predictor
from worker.model.rows import unpack_rows

ROWS_MAX = 4

Exported = Callable[[str], tuple[ModelStore, Manifest]]


def any_value(feature: Feature, seen: list[Any]) -> st.SearchStrategy[Any]:
    """Values that a caller may send: as in training, fractions, large numbers, unseen texts, null where allowed."""
    if feature.type == "boolean":
        odd: st.SearchStrategy[Any] = st.booleans()
    elif feature.type == "string":
        odd = st.sampled_from(["never seen", "", "nan", "None", "1", "1.0"]) | st.text(max_size=3)
    else:
        odd = st.sampled_from([-0.0, 0.5, 1e-300, -1.5, 300.0, 2.0**53, 1e12, 1e39, 1e300])
    return st.sampled_from(seen) | odd | (st.none() if feature.nullable else odd)


def any_rows(manifest: Manifest) -> st.SearchStrategy[list[Row]]:
    columns = zip(*rows_of(manifest), strict=True)
    values = [any_value(feature, [*seen]) for feature, seen in zip(manifest.features, columns, strict=True)]
    row = st.sampled_from(rows_of(manifest)) | st.tuples(*values).map(list)
    return st.lists(row, min_size=2, max_size=ROWS_MAX)


def answers(predictions: Predictions) -> list[Any]:
    """The answer to each row: prediction and probabilities, or the error without its position."""
    found: list[Any] = []
    for at, prediction in enumerate(predictions.predictions):
        if at in predictions.failures:
            found.append((predictions.failures[at].code, predictions.failures[at].message))
        else:
            found.append((prediction, predictions.probabilities and predictions.probabilities[at]))
    return found


def flat(value: Any) -> list[Any]:
    return [each for part in value for each in flat(part)] if isinstance(value, list | tuple) else [value]


def assert_same(found: list[Any], expected: list[Any]) -> None:
    """Compare answers; numbers may differ in their last digits, because matrix products round by their shape."""
    for ours, theirs in zip(flat(found), flat(expected), strict=True):
        assert type(ours) is type(theirs)
        assert ours == (pytest.approx(theirs, rel=1e-9, abs=1e-9) if type(ours) is float else theirs)


def check_all_ways(predictor: Predictor, rows: list[Row], chance: random.Random) -> None:
    alone = [answers(predictor.predict([row]))[0] for row in rows]
    order = [*range(len(rows)), *chance.choices(range(len(rows)), k=2)]
    chance.shuffle(order)
    assert_same(answers(predictor.predict([rows[at] for at in order])), [alone[at] for at in order])
    if all(type(value) is float for row in rows for value in row):
        assert_same(answers(predictor.predict(unpack_rows(packed(rows), [len(rows)]))), alone)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("case", CASES)
def test_no_neighbour_changes_an_answer(exported: Exported, case: str, caplog: pytest.LogCaptureFixture) -> None:
    # Each failing row would be logged with its traceback.
    caplog.set_level(logging.CRITICAL, "worker.model.predictor")
    predictor = Predictor.load(*exported(case))

    @fuzzed(3)
    @given(any_rows(predictor.manifest), st.randoms(use_true_random=False))
    def check(rows: list[Row], chance: random.Random) -> None:
        check_all_ways(predictor, rows, chance)

    check()


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    """A classifier that reads two columns of whole numbers as text."""
    frame = pd.DataFrame({"zip": [1000, 2000] * 20, "rooms": [1, 2, 3, 4] * 10}, dtype="int64")
    frame["rooms"] = frame["rooms"].astype("int8")
    texts = make_pipeline(FunctionTransformer(as_text), OneHotEncoder(handle_unknown="ignore"))
    columns = ColumnTransformer([("texts", texts, ["zip", "rooms"])])
    estimator = make_pipeline(columns, LogisticRegression()).fit(frame, np.where(frame["zip"] == 1000, "yes", "no"))
    store = ModelStore(Path(tmp_path_factory.mktemp("homes")))
    manifest = export(estimator, frame, name="homes", store=store, extra_modules=["tests"]).manifest
    return Predictor.load(store, manifest, OURS)


def test_a_fraction_beside_a_whole_number_does_not_change_its_text(homes: Predictor) -> None:
    beside = homes.predict([[1000.0, 1.0], [1000.5, 1.0], [1000.0, 300.0], [2000.0, 1.5], [1000.5, 300.0], [2000, 4]])

    assert beside.predictions[0] == "yes"
    assert beside.predictions[5] == "no"
    assert beside.predictions[2] == "yes", "a column that holds its number keeps its dtype beside one that does not"
    assert beside.predictions[3] == "no"
    assert len(beside.confidence) == 6
    assert beside.failures == {}


def test_rows_of_any_dtypes_are_answered_in_their_order(homes: Predictor) -> None:
    values = [1000.0, 1000.5, 2000.0, None, 1e300]
    rows: list[Row] = [[zip_code, rooms] for zip_code in values for rooms in (1.0, 1.5, 300.0, None)]

    for seed in range(3):
        check_all_ways(homes, rows, random.Random(seed))


def test_a_failure_keeps_its_row_where_rows_are_predicted_apart(homes: Predictor) -> None:
    answer = homes.predict([[1000.5, 1.0], [1000.0, 1.0], ["text", 1.0], [1000.5, 1.0], [1000.0, 1.0]])

    assert {at: error.rows for at, error in answer.failures.items()} == {2: [2]}
    assert [each is None for each in answer.predictions] == [False, False, True, False, False]


def test_rows_that_change_nothing_are_one_call(homes: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    predict_proba = homes._estimator.predict_proba

    def counted(rows: Any) -> Any:
        asked.append(len(rows))
        return predict_proba(rows)

    monkeypatch.setattr(homes._estimator, "predict_proba", counted)

    homes.predict([[1000.0, 1.0], [2000.0, 2.0], [1000.0, -0.0]])
    homes.predict([[1000.5, 1.0], [2000.5, 2.0], [1e300, 3.0]])
    assert asked == [3, 3]
    homes.predict([[1000.5, 1.0], [2000.0, 2.0], [1000.5, 3.0]])
    assert sorted(asked[2:]) == [1, 2]
