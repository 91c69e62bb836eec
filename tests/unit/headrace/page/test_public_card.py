import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LinearRegression

from headrace import export
from headrace.errors import NotExportable
from headrace.models.manifest import Manifest
from headrace.models.store import ModelStore
from headrace.page.public_card import public_card
from tests.support.estimators import CASES
from tests.support.exported import Exported
from tests.support.html_pages import checked
from tests.support.manifests import classifier

PAGE_BYTES_MAX = 300_000
URL = "http://gateway/models/m"
ABOUT = {
    "owner": "Pricing",
    "intended_use": "Prices of flats",
    "limitations": "No houses",
    "license": "Apache-2.0",
    "commit": "9ce0b65",
}


@pytest.mark.parametrize("kind", CASES)
def test_a_public_card_is_one_small_page_that_loads_nothing(kind: str, exported: Exported) -> None:
    content = public_card(exported(kind)[1], URL)

    checker = checked(content)
    assert checker.open == []
    assert checker.foreign == []
    assert not re.search(r"url\(|@import|\bnan\b|\binf\b", content)
    assert len(content.encode()) < PAGE_BYTES_MAX


def test_it_tells_what_the_exporter_said(store: ModelStore) -> None:
    rows, targets = np.arange(20.0).reshape(-1, 1), np.arange(20.0)
    manifest = export(
        LinearRegression().fit(rows, targets), rows, targets, name="m", store=store, about=ABOUT, description="Prices."
    ).manifest

    text = checked(public_card(manifest, URL)).text

    for part in (*ABOUT.values(), "Intended use", "Prices.", f"curl {URL}/predict", "training mean absolute error"):
        assert part in text


def test_the_numbers_of_its_request_are_short_and_within_the_ranges() -> None:
    plain = classifier(("length", "width", "height"))
    low, high = 0.123456789, 0.123456999
    length = plain.features[0].model_copy(update={"maximum": 9.0})
    narrow = plain.features[1].model_copy(update={"minimum": low, "maximum": high})
    sample = plain.samples[0].model_copy(update={"row": [5.843333333333334, 0.12345689000000001, 123456.0]})
    features = [length, narrow, plain.features[2]]

    text = checked(public_card(plain.model_copy(update={"features": features, "samples": [sample]}), URL)).text

    [row] = re.findall(r"-d '(.*?)'", text)
    values = json.loads(row)
    assert (values["length"], values["height"]) == (5.843, 123456.0)
    assert low <= values["width"] <= high and len(str(values["width"])) < 12


@pytest.mark.parametrize("about", [{"licence": "MIT"}, {"owner": "x" * 2_001}, {"owner": 1}])
def test_an_unknown_fact_is_refused(store: ModelStore, about: dict[str, str]) -> None:
    rows = np.arange(20.0).reshape(-1, 1)
    with pytest.raises(NotExportable, match="about"):
        export(LinearRegression().fit(rows, rows[:, 0]), rows, name="m", store=store, about=about)


def test_it_holds_no_training_row(store: ModelStore) -> None:
    secret = 123456.789
    rows = np.append(np.linspace(0, 200_000, 99), secret).reshape(-1, 1)
    model = LinearRegression().fit(rows, rows[:, 0] * 2)
    for samples in ("synthetic", "none"):
        manifest = export(model, rows, rows[:, 0] * 2, name="m", version=samples, store=store, samples=samples).manifest
        content = public_card(manifest, URL)
        assert "123456" not in content and "246913" not in content
        assert ("<h2>Samples</h2>" in content) is (samples == "synthetic")
    manifest = export(model, rows, rows[:, 0] * 2, name="m", version="own", store=store, samples=rows[-1:]).manifest
    assert "123456.789" in public_card(manifest, URL)


def test_names_and_texts_can_not_become_markup(store: ModelStore) -> None:
    evil = "<script>alert(1)</script>'\"&"
    frame = pd.DataFrame({evil: [evil, "b"] * 10, "x": [0.0, 1.0] * 10})
    targets = np.array([evil, "b"] * 10)
    manifest = export(
        DummyClassifier().fit(frame, targets),
        frame,
        targets,
        name="m",
        store=store,
        description=evil,
        about={"owner": evil},
    ).manifest

    content = public_card(manifest, URL)

    assert checked(content).foreign == []
    assert "&lt;script&gt;" in content


def test_a_wide_model_has_a_page_of_the_same_size() -> None:
    manifest = classifier([f"{'x' * 100}{i}" for i in range(10_000)], [f"{'c' * 100}{i}" for i in range(1_000)])

    content = public_card(manifest, URL)

    assert len(content.encode()) < PAGE_BYTES_MAX
    assert re.search(r"and \d+ more", content) and "and 980 rarer ones" in content


def test_versions_of_older_exports_have_a_card_too(tmp_path: Path) -> None:
    older = classifier().model_dump_json(exclude={"about"}).encode()

    assert "sticks" in public_card(Manifest.parse(older, "older"), URL)
