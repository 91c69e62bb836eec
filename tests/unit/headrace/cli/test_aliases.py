import json
import os
from pathlib import Path

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

from headrace.models.alias import Trial
from headrace.models.manifest import SIGNATURE_FILE
from headrace.models.store import ModelStore
from tests.support.signing import signing_key
from tests.unit.headrace.cli.versions import add, damage, run
from tests.unit.headrace.models.test_manifest import document

Captured = pytest.CaptureFixture[str]


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


def test_trials_are_set_and_ended(filled: ModelStore, capsys: Captured) -> None:
    assert run("trial", "iris", "v1", "--alias", "latest", "--split", "0.25") == 0
    assert run("trial", "iris", "v1", "--alias", "latest", "--shadow", "1") == 0
    record = filled.alias_records("iris")["latest"]
    assert (record.split, record.shadow) == (Trial(version="v1", share=0.25), Trial(version="v1", share=1.0))
    assert "25.0% of latest" in capsys.readouterr().out

    assert run("trial", "iris", "--alias", "latest", "--end") == 0
    record = filled.alias_records("iris")["latest"]
    assert (record.split, record.shadow) == (None, None)


def test_a_shadow_takes_the_rows_of_the_version_that_answers(filled: ModelStore, capsys: Captured) -> None:
    first, *_ = document()["features"]
    others = [{**first, "name": f"f{at}"} for at in range(8)]
    add(filled, "v4", features=[first, *others], samples=[])
    add(filled, "v5", features=[*others, first], samples=[])
    filled.set_alias("iris", "latest", "v4")
    capsys.readouterr()

    assert run("trial", "iris", "v4", "--shadow", "1") == 1

    reason = "v4 and v2 differ in features: 'f0', 'f1', 'f2', 'f3', 'f4' and 3 more"
    assert capsys.readouterr() == ("", f"headrace: iris v4 can't be a shadow: {reason}\n")
    assert filled.alias_records("iris")["production"].shadow is None
    assert run("trial", "iris", "v5", "--alias", "latest", "--shadow", "1") == 0, "any order will do"


def test_a_shadow_has_the_outputs_of_the_version_that_answers(filled: ModelStore, capsys: Captured) -> None:
    [output] = document()["outputs"]
    add(filled, "v4", outputs=[{**output, "name": "other"}], samples=[])
    add(filled, "v5", outputs=[output, {**output, "name": "other"}], samples=[])

    assert run("trial", "iris", "v4", "--shadow", "1") == 0, "a single output may have any name"
    assert run("trial", "iris", "v5", "--shadow", "1") == 1

    assert "differ in outputs: 'other'" in capsys.readouterr().err


def test_manifests_that_can_not_be_read_do_not_refuse_a_trial(filled: ModelStore) -> None:
    damage(filled, "v3", "manifest.json")

    assert run("trial", "iris", "v3", "--shadow", "1") == 0


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


@pytest.mark.parametrize("command", [["sign", "iris", "v1", "--key"], ["promote", "iris", "v1", "--sign"]])
def test_an_artifact_that_does_not_end_is_not_signed(
    command: list[str], filled: ModelStore, capsys: Captured, tmp_path: Path
) -> None:
    key, _ = signing_key(tmp_path / "model.key")
    folder = Path(filled.location("iris", "v1"))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["artifact"]["size_bytes"] = 10**12
    (folder / "manifest.json").write_text(json.dumps(manifest))
    os.truncate(folder / "model.pkl", 10**12)

    assert run(*command, str(key), "--timeout", "0.5") == 1

    assert capsys.readouterr() == ("", "headrace: iris v1: it takes longer than 0.5 s, and was ended (--timeout)\n")
    assert not (folder / SIGNATURE_FILE).exists() and filled.aliases("iris")["production"] == "v2"


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
