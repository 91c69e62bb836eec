import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import joblib
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from sklearn.dummy import DummyClassifier

from headrace.cli.store_commands import add_commands
from headrace.models.alias import Trial
from headrace.models.manifest import SIGNATURE_FILE
from headrace.models.store import ModelStore
from tests.support.signing import signing_key
from tests.unit.headrace.models.test_manifest import document

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def environment(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_STORE", store.root)
    monkeypatch.delenv("SKOPS_TRUSTED_TYPES", raising=False)


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    add_commands(parser.add_subparsers(required=True))
    options = parser.parse_args(arguments)
    code: int = options.run(options)
    return code


def add(store: ModelStore, version: str, name: str = "iris", **changes: Any) -> None:
    """A version that predicts what its manifest says."""

    def write(folder: Path) -> None:
        joblib.dump(DummyClassifier().fit([[1.0], [2.0]], ["a", "b"]), folder / "model.pkl")
        content = (folder / "model.pkl").read_bytes()
        manifest = {
            **document(),
            "name": name,
            "version": version,
            "artifact": {
                "file": "model.pkl",
                "format": "joblib",
                "sha256": hashlib.sha256(content).hexdigest(),
                "size_bytes": len(content),
            },
            "samples": [{"row": [1.5], "prediction": "a", "probabilities": [0.5, 0.5]}],
            **changes,
        }
        (folder / "manifest.json").write_text(json.dumps(manifest))

    store.add(name, version, write)


def damage(store: ModelStore, version: str, file: str) -> Path:
    path = Path(store.location("iris", version), file)
    path.write_bytes(path.read_bytes()[:-1])
    return path


@pytest.fixture
def filled(store: ModelStore) -> ModelStore:
    """Three versions; production was v1 and is v2, latest is v3."""
    for day in (1, 2, 3):
        add(store, f"v{day}", created_at=f"2026-11-0{day}T12:00:00+00:00", training_rows=10**day)
        store.set_alias("iris", "latest", f"v{day}")
    store.set_alias("iris", "production", "v1")
    store.set_alias("iris", "production", "v2")
    return store


# list


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
    assert run("list") == 0
    assert capsys.readouterr() == (f"no models in {store.root}\n", "")


def test_an_option_names_another_store(filled: ModelStore, tmp_path: Path, capsys: Captured) -> None:
    assert run("list", "--store", f"file://{tmp_path}/other") == 0
    assert capsys.readouterr().out == f"no models in {tmp_path}/other\n"


# show


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


# promote, rollback


def test_promoting_moves_production(filled: ModelStore, capsys: Captured) -> None:
    assert run("promote", "iris", "v3") == 0

    assert filled.aliases("iris") == {"latest": "v3", "production": "v3"}
    assert capsys.readouterr() == ("production of iris is now v3 (was v2)\n", "")


def test_what_latest_names_can_be_promoted_to_another_alias(filled: ModelStore, capsys: Captured) -> None:
    assert run("promote", "iris", "latest", "--alias", "canary") == 0

    assert filled.resolve("iris", "canary") == "v3"
    assert capsys.readouterr().out == "canary of iris is now v3 (is new)\n"


def test_rolling_back_moves_production_to_where_it_was(filled: ModelStore, capsys: Captured) -> None:
    assert run("rollback", "iris") == 0

    assert filled.resolve("iris", "production") == "v1"
    assert capsys.readouterr() == ("production of iris is now v1 (was v2)\n", "")

    assert run("rollback", "iris") == 1
    assert capsys.readouterr() == (
        "",
        "headrace: 'production' of 'iris' named no version before 'v1' that still exists\n",
    )


# verify


def test_intact_versions_are_said_to_be_intact(filled: ModelStore, capsys: Captured) -> None:
    assert run("verify") == 0

    output, errors = capsys.readouterr()
    assert output.splitlines() == [f"iris v{n} is intact and predicts its 1 samples" for n in (1, 2, 3)]
    assert errors == ""


def test_a_tampered_artifact_is_never_loaded(
    filled: ModelStore, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joblib, "load", lambda *_: pytest.fail("it was loaded"))
    path = damage(filled, "v2", "model.pkl")

    assert run("verify", "iris", "production") == 1

    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.startswith(f"headrace: {path}: SHA-256 is ") and errors.count("\n") == 1


def test_one_damaged_version_does_not_hide_the_others(filled: ModelStore, capsys: Captured) -> None:
    damage(filled, "v1", "manifest.json")
    damage(filled, "v2", "model.pkl")

    assert run("verify", "iris") == 1

    output, errors = capsys.readouterr()
    assert output == "iris v3 is intact and predicts its 1 samples\n"
    assert errors.count("\n") == errors.count("headrace: ") == 2


@pytest.mark.parametrize(
    "sample",
    [
        {"row": [1.5], "prediction": "b", "probabilities": [0.5, 0.5]},
        {"row": [1.5], "prediction": "a", "probabilities": [0.5, 0.51]},
    ],
)
def test_other_predictions_than_at_export_are_found(
    store: ModelStore, capsys: Captured, sample: dict[str, Any]
) -> None:
    add(store, "v1", samples=[sample])

    assert run("verify", "iris", "v1") == 1
    assert capsys.readouterr() == ("", "headrace: iris v1: sample 0 is not predicted as when it was exported\n")


def test_an_artifact_that_cannot_be_loaded_is_one_line(store: ModelStore, capsys: Captured) -> None:
    content = b"no pickle\n"

    def write(folder: Path) -> None:
        (folder / "model.pkl").write_bytes(content)
        artifact = {"file": "model.pkl", "format": "joblib", "size_bytes": len(content)}
        artifact["sha256"] = hashlib.sha256(content).hexdigest()
        (folder / "manifest.json").write_text(json.dumps({**document(), "artifact": artifact}))

    store.add("iris", "v1", write)

    assert run("verify") == 1
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.startswith("headrace: iris v1: it can't be loaded: ") and errors.count("\n") == 1


# prune


def test_pruning_says_what_it_removed(filled: ModelStore, capsys: Captured) -> None:
    assert run("prune", "iris", "--keep", "1") == 0

    assert filled.versions("iris") == ["v2", "v3"]
    assert capsys.readouterr() == ("removed iris v1\n", "")


def test_a_dry_run_removes_nothing(filled: ModelStore, capsys: Captured) -> None:
    assert run("prune", "iris", "--keep", "1", "--dry-run") == 0

    assert filled.versions("iris") == ["v1", "v2", "v3"]
    assert capsys.readouterr().out == "would remove iris v1\n"


def test_nothing_to_prune_is_said(filled: ModelStore, capsys: Captured) -> None:
    assert run("prune", "iris", "--keep", "3") == 0
    assert capsys.readouterr().out.startswith("nothing to remove: ")


@pytest.mark.parametrize("keep", ["0", "-1", "many"])
def test_at_least_one_version_is_kept(filled: ModelStore, keep: str) -> None:
    with pytest.raises(SystemExit):
        run("prune", "iris", "--keep", keep)


# What goes wrong


@pytest.mark.parametrize(
    "command",
    [
        ("list", "tulip"),
        ("show", "tulip"),
        ("show", "iris", "v9"),
        ("show", "../iris"),
        ("promote", "iris", "v9"),
        ("promote", "iris", "v1", "--alias", "v2"),
        ("rollback", "iris", "--alias", "latest2"),
        ("verify", "tulip"),
        ("verify", "iris", "v9"),
        ("prune", "tulip", "--keep", "1"),
        ("list", "--store", "cloud://models"),
        ("list", "--store", "s3://key:secret@bucket/models"),
    ],
)
def test_what_is_not_possible_is_one_line_of_complaint(
    filled: ModelStore, capsys: Captured, command: tuple[str, ...]
) -> None:
    before = filled.aliases("iris"), filled.versions("iris")

    assert run(*command) == 1

    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.startswith("headrace: ") and errors.count("\n") == 1
    assert (filled.aliases("iris"), filled.versions("iris")) == before


def test_trials_are_set_and_ended(filled: ModelStore, capsys: Captured) -> None:
    assert run("trial", "iris", "v1", "--alias", "latest", "--split", "0.25") == 0
    assert run("trial", "iris", "v1", "--alias", "latest", "--shadow", "1") == 0
    record = filled.alias_records("iris")["latest"]
    assert (record.split, record.shadow) == (Trial(version="v1", share=0.25), Trial(version="v1", share=1.0))
    assert "25.0% of latest" in capsys.readouterr().out

    assert run("trial", "iris", "--alias", "latest", "--end") == 0
    record = filled.alias_records("iris")["latest"]
    assert (record.split, record.shadow) == (None, None)


@pytest.mark.parametrize("share", ["0", "-1", "1.5", "nan", "half"])
def test_a_share_lies_above_0_and_is_at_most_1(filled: ModelStore, share: str) -> None:
    with pytest.raises(SystemExit):
        run("trial", "iris", "v1", "--split", share)


def signature(store: ModelStore, version: str) -> bytes | None:
    return store.file(store.manifest("iris", version), SIGNATURE_FILE)


def test_a_version_is_signed_with_a_key_of_ones_own(filled: ModelStore, capsys: Captured, tmp_path: Path) -> None:
    key, public = signing_key(tmp_path / "model.key")

    assert run("sign", "iris", "v1", "--key", str(key)) == 0

    assert capsys.readouterr().out == "iris v1 is signed\n"
    manifest = Path(filled.location("iris", "v1"), "manifest.json").read_bytes()
    found = signature(filled, "v1")
    assert found is not None
    # As OpenSSL's own `pkeyutl -verify -rawin` does.
    public.verify(found, manifest)
    with pytest.raises(InvalidSignature):
        public.verify(found, manifest + b" ")


def test_promoting_can_sign_too(filled: ModelStore, capsys: Captured, tmp_path: Path) -> None:
    key, _ = signing_key(tmp_path / "model.key")
    assert signature(filled, "v1") is None

    assert run("promote", "iris", "v1", "--sign", str(key)) == 0

    assert signature(filled, "v1") is not None
    assert filled.aliases("iris")["production"] == "v1"


@pytest.mark.parametrize("spoiled", ["key", "artifact"])
def test_what_can_not_be_signed_is_not_promoted(
    filled: ModelStore, capsys: Captured, tmp_path: Path, spoiled: str
) -> None:
    key, _ = signing_key(tmp_path / "model.key")
    if spoiled == "artifact":
        damage(filled, "v1", "model.pkl")
    else:
        key.write_text("no key")
    before = filled.aliases("iris")

    assert run("promote", "iris", "v1", "--alias", "staging", "--sign", str(key)) == 1

    errors = capsys.readouterr().err
    assert errors.startswith("headrace: ") and errors.count("\n") == 1
    assert filled.aliases("iris") == before
    assert signature(filled, "v1") is None


def pem(key: Ed25519PrivateKey | X25519PrivateKey, password: KeySerializationEncryption) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, password)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (pem(X25519PrivateKey.generate(), NoEncryption()), "this is not an Ed25519 key"),
        (pem(Ed25519PrivateKey.generate(), BestAvailableEncryption(b"secret")), "the key has a password"),
        (b"text", "this is not a private key"),
        (None, "No such file or directory"),
    ],
    ids=["another kind", "password", "text", "missing"],
)
def test_a_key_that_can_not_be_used_is_told(
    filled: ModelStore, capsys: Captured, tmp_path: Path, content: bytes | None, said: str
) -> None:
    path = tmp_path / "model.key"
    if content is not None:
        path.write_bytes(content)

    assert run("sign", "iris", "v1", "--key", str(path)) == 1

    assert said in capsys.readouterr().err


def test_a_version_on_trial_is_not_removed(filled: ModelStore) -> None:
    assert run("trial", "iris", "v1", "--alias", "latest", "--shadow", "0.5") == 0
    assert "v1" not in filled.prunable("iris", 1)
