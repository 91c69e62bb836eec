import json
from pathlib import Path

import pytest

from headrace.models.store import ModelStore
from tests.support.hostile_texts import HOSTILE_TEXTS, harmless
from tests.unit.headrace.cli.versions import add, damage, run
from tests.unit.headrace.models.test_manifest import document

Captured = pytest.CaptureFixture[str]


def test_the_list_is_a_table_of_all_versions(filled: ModelStore, capsys: Captured) -> None:
    add(filled, "v1", name="a-longer-name", scores={})

    assert run("list") == 0

    output, errors = capsys.readouterr()
    lines = output.splitlines()
    assert lines[0].split() == ["MODEL", "VERSION", "ALIASES", "CREATED", "ROWS", "ESTIMATOR", "SCORE", "SIZE"]
    assert [line.split()[:2] for line in lines[1:]] == [
        ["a-longer-name", "v1"],
        ["iris", "v1"],
        ["iris", "v2"],
        ["iris", "v3"],
    ]
    assert lines[3].split()[2:7] == ["production", "2026-11-02T12:00:00+00:00", "100", "DummyClassifier", "accuracy"]
    assert {line[lines[0].index("CREATED") :][:4] for line in lines[1:]} == {"2026"}
    assert not any(line.endswith(" ") for line in lines)
    assert errors == ""


def test_the_list_of_one_model_has_only_that(filled: ModelStore, capsys: Captured) -> None:
    add(filled, "v1", name="wine")

    assert run("list", "wine") == 0

    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["MODEL", "wine"]


def test_a_damaged_version_is_listed_as_such(filled: ModelStore, capsys: Captured) -> None:
    damage(filled, "v2", "manifest.json")

    assert run("list") == 0

    assert "iris   v2       production  damaged\n" in capsys.readouterr().out


def test_an_empty_store_is_said_to_be_empty(store: ModelStore, capsys: Captured) -> None:
    Path(store.root).mkdir()

    assert run("list") == 0
    assert capsys.readouterr() == (f"no models in {store.root}\n", "")


def test_an_option_names_another_store(filled: ModelStore, tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "other").mkdir()

    assert run("list", "--store", f"file://{tmp_path}/other") == 0
    assert capsys.readouterr().out == f"no models in {tmp_path}/other\n"


def test_a_version_is_shown_for_people(filled: ModelStore, capsys: Captured) -> None:
    assert run("show", "iris", "production") == 0

    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "iris v2 (production)"
    assert f"location {filled.root}/iris/v2" in lines
    assert "estimator sklearn.dummy.DummyClassifier" in lines
    assert "accuracy 0.5" in lines
    assert "prediction one of a, b, with probabilities" in lines
    assert lines[-2:] == ["features", "width number 0.5 to 2.5"]


def test_without_a_version_the_latest_is_shown(filled: ModelStore, capsys: Captured) -> None:
    assert run("show", "iris") == 0
    assert capsys.readouterr().out.startswith("iris v3 (latest)\n")


def test_an_unknown_number_of_training_rows_is_said(store: ModelStore, capsys: Captured) -> None:
    add(store, "v1", training_rows=None)

    assert run("list") == run("show", "iris", "v1") == 0
    output = capsys.readouterr().out
    assert "rows unknown number in training; as " in " ".join(output.split())
    assert "None" not in output


def test_texts_and_missing_values_are_shown(store: ModelStore, capsys: Captured) -> None:
    categories = [f"c{number}" for number in range(9)]
    reference = {"bins": ["c0", "other", "missing"], "ratios": [0.5, 0.25, 0.25]}
    town = {
        "name": "town",
        "type": "string",
        "dtype": "object",
        "nullable": True,
        "categories": categories,
        "reference": reference,
    }
    add(
        store,
        "v1",
        input="frame",
        features=[town],
        samples=[{"row": ["c0"], "prediction": "a", "probabilities": [0.5, 0.5]}],
    )

    assert run("show", "iris", "v1") == 0

    assert capsys.readouterr().out.endswith("  town  string  c0, c1, c2, c3, c4, c5, c6, c7, …, or null\n")


def test_no_text_of_a_manifest_reaches_the_terminal_as_it_is(store: ModelStore, capsys: Captured) -> None:
    everything = "".join(text for text in HOSTILE_TEXTS if "\ud800" not in text)
    hostile = f"{HOSTILE_TEXTS[0]}\nv9 is intact"
    feature = document()["features"][0]
    output = document()["outputs"][0]
    add(
        store,
        "v1",
        description=everything + hostile,
        created_at="2026-11-01T12:00:00+00:00",
        estimator=f"module.{hostile}",
        libraries={f"library{hostile}": hostile},
        scores={f"score{hostile}": 0.5},
        features=[{**feature, "name": f"feature{hostile}"}],
        outputs=[{**output, "name": f"output{hostile}", "classes": [hostile, "b"]}],
        samples=[{"row": [1.5], "prediction": "b", "probabilities": [0.5, 0.5]}],
    )

    assert run("show", "iris", "v1") == 0
    assert run("list") == 0

    shown, errors = capsys.readouterr()
    assert harmless(shown) and errors == ""
    assert shown.count("before\\x1b[2J") >= 7
    assert "\nv9 is intact" not in shown


def test_a_broken_manifest_is_complained_of_without_its_texts(store: ModelStore, capsys: Captured) -> None:
    add(store, "v1")
    unknown = {"".join(text for text in HOSTILE_TEXTS if "\ud800" not in text) + "\n": 1}
    Path(store.location("iris", "v1"), "manifest.json").write_text(json.dumps({**document(), **unknown}))

    assert run("show", "iris", "v1") == 1
    assert run("verify", "iris") == 1

    shown, errors = capsys.readouterr()
    assert harmless(shown + errors) and errors.count("\n") == 2
