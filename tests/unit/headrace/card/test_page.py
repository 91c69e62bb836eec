import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression, Ridge

from headrace import export
from headrace.card.charts import histogram
from headrace.models.manifest import Manifest
from headrace.models.store import ModelStore
from headrace.page.drawing import short
from headrace.page.public_card import public_card
from tests.support.estimators import CASES
from tests.support.exported import Exported
from tests.support.html_pages import checked

CARD_BYTES_MAX = 300_000


def page(store: ModelStore, manifest: Manifest) -> str:
    return Path(store.location(manifest.name, manifest.version), "card.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", CASES)
def test_a_card_is_one_small_page_that_loads_nothing(kind: str, exported: Exported) -> None:
    content = page(*exported(kind))

    checker = checked(content)
    assert checker.open == []
    assert checker.foreign == []
    assert not re.search(r"url\(|@import|\bnan\b|\binf\b", content)
    assert len(content.encode()) < CARD_BYTES_MAX


def test_a_card_tells_who_the_model_is_and_how_good(store: ModelStore) -> None:
    case = CASES["mixed frame"]()
    manifest = export(
        case.estimator, case.X, case.y, name="people", version="v7", store=store, scores={"roc_auc": 0.875}
    ).manifest

    text = checked(page(store, manifest)).text

    for part in (
        "people",
        "v7",
        "0.875",
        "roc auc",
        "Pipeline(",
        "income",
        "Berlin",
        "missing",
        manifest.artifact.sha256,
    ):
        assert part in text
    assert "for rows that it was fitted on" in text


def test_held_out_predictions_are_said_to_be_held_out(store: ModelStore) -> None:
    rows, targets = np.arange(20.0).reshape(-1, 1), np.arange(20.0)
    manifest = export(Ridge().fit(rows, targets), rows, targets, name="m", store=store, held_out=targets + 1).manifest

    text = checked(page(store, manifest)).text

    assert "by models that had not seen the row" in text
    assert "Residuals" in text
    assert manifest.scores["mean_absolute_error"] == pytest.approx(1)


def test_scores_on_the_training_rows_are_called_so(store: ModelStore) -> None:
    rows, targets = [[0.0], [1.0]] * 3, ["a", "b"] * 3
    manifest = export(LogisticRegression(C=100).fit(rows, targets), rows, targets, name="m", store=store).manifest

    assert manifest.scores == {"training_accuracy": 1.0, "training_f1_macro": 1.0}
    assert "which flatters it" in checked(page(store, manifest)).text


def test_names_and_texts_can_not_become_markup(store: ModelStore) -> None:
    evil = "<script>alert(1)</script>"
    frame = pd.DataFrame({evil: [evil, "b"] * 3, "x": [0.0, 1.0] * 3})
    targets = np.array([evil, "b"] * 3)

    content = page(
        store,
        export(DummyClassifier().fit(frame, targets), frame, targets, name="m", store=store, description=evil).manifest,
    )

    assert checked(content).foreign == []
    assert "&lt;script&gt;" in content


def test_many_features_and_classes_stay_readable(store: ModelStore) -> None:
    random = np.random.default_rng(0)
    rows, targets = random.normal(size=(600, 200)), np.arange(600) % 60

    content = page(store, export(DummyClassifier().fit(rows, targets), rows, targets, name="m", store=store).manifest)

    assert re.search(r"and \d+ more", content) and "and 40 rarer classes" in content
    assert len(content.encode()) < CARD_BYTES_MAX


@pytest.mark.parametrize(
    "values",
    [[0.0], [5e-324], [-1e300, 1e300], [1.0, 2.0, 2.0], [1.0, np.nextafter(1.0, 2.0)], list(range(100))],
    ids=str,
)
def test_every_range_of_numbers_has_a_histogram(values: Any) -> None:
    chart = histogram(np.array(values, dtype=np.float64), [float(values[0])])

    assert "<rect" in chart
    assert "nan" not in chart and "inf" not in chart


def test_numbers_are_short() -> None:
    assert [short(each) for each in (0.96, 12345.678, 3e12, -0.00012345, 0.0)] == [
        "0.96",
        "12,346",
        "3e+12",
        "-0.0001234",
        "0",
    ]


def test_shares_are_those_of_the_rows_and_not_smoothed(store: ModelStore) -> None:
    rows = pd.DataFrame({"city": ["Oslo"] * 9 + ["Lyon"] * 3, "size": range(12)})
    model = DummyClassifier(strategy="constant", constant="yes").fit(rows, ["yes", "no"] * 6)

    text = checked(page(store, export(model, rows, name="m", store=store).manifest)).text

    assert "other: 0" not in text and "Oslo: 75.00%" in text and "Lyon: 25.00%" in text
    assert "yes: 100.00%" in text and "no: 0.00%" in text


def test_some_of_the_training_rows_do_not_tell_their_number(store: ModelStore) -> None:
    model = LogisticRegression().fit([[0.0], [1.0]], ["no", "yes"])
    manifest = export(model, [[0.0], [1.0]], name="m", store=store, complete=False).manifest

    text = checked(page(store, manifest)).text

    assert manifest.training_rows is None
    assert "Training rows" not in text and "Predictions for some of the training rows" in text
    assert "no: 50.00%" in text, "the shares are those of the two rows"
    assert "Training rows" not in checked(public_card(manifest, "http://gateway/models/m")).text
