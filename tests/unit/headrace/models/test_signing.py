from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from headrace.errors import ArtifactInvalid, ModelError
from headrace.models.manifest import MANIFEST_FILE, SIGNATURE_FILE, Manifest
from headrace.models.signing import PublicKeys, sign
from headrace.models.store import ModelStore
from tests.support.signing import public_file, signing_key
from tests.support.store_contract import add


class Signed:
    """A store with a signed version, and the key that signed it."""

    def __init__(self, folder: Path) -> None:
        self.store = ModelStore(folder / "models")
        self.key, public = signing_key(folder / "model.key")
        self.other_key, self.other_public = signing_key(folder / "other.key")
        self.public_file = public_file(folder / "model.pub", public)
        add(self.store, "v1")
        self.manifest = sign(self.store, "iris", "v1", self.key)

    def path(self, file: str, version: str = "v1") -> Path:
        return Path(self.store.location("iris", version), file)


@pytest.fixture
def signed(tmp_path: Path) -> Signed:
    return Signed(tmp_path)


def test_a_signed_version_passes(signed: Signed) -> None:
    PublicKeys.read(signed.public_file).check(signed.store, signed.manifest)


def unsigned(signed: Signed) -> None:
    signed.path(SIGNATURE_FILE).unlink()


def signed_by_another(signed: Signed) -> None:
    sign(signed.store, "iris", "v1", signed.other_key)


def changed_manifest(signed: Signed) -> None:
    changed = signed.manifest.model_copy(update={"description": "now mine"})
    signed.path(MANIFEST_FILE).write_text(changed.model_dump_json())


def one_more_space(signed: Signed) -> None:
    path = signed.path(MANIFEST_FILE)
    path.write_bytes(path.read_bytes() + b" ")


def changed_signature(signed: Signed) -> None:
    content = bytearray(signed.path(SIGNATURE_FILE).read_bytes())
    content[10] ^= 1
    signed.path(SIGNATURE_FILE).write_bytes(content)


def short_signature(signed: Signed) -> None:
    signed.path(SIGNATURE_FILE).write_bytes(b"")


def signature_of_another_version(signed: Signed) -> None:
    add(signed.store, "v2")
    sign(signed.store, "iris", "v2", signed.key)
    signed.path(SIGNATURE_FILE).write_bytes(signed.path(SIGNATURE_FILE, "v2").read_bytes())


@pytest.mark.parametrize(
    ("attack", "reason"),
    [
        (unsigned, "it is not signed"),
        (signed_by_another, "none of the keys"),
        (changed_manifest, "none of the keys"),
        (one_more_space, "none of the keys"),
        (changed_signature, "none of the keys"),
        (short_signature, "none of the keys"),
        (signature_of_another_version, "none of the keys"),
    ],
)
def test_a_version_that_is_not_signed_is_refused_without_reading_its_artifact(
    signed: Signed, monkeypatch: pytest.MonkeyPatch, attack: Callable[[Signed], None], reason: str
) -> None:
    attack(signed)
    manifest = signed.store.manifest("iris", "v1")
    monkeypatch.setattr(ModelStore, "copy_artifact", pytest.fail)

    with pytest.raises(ArtifactInvalid, match=reason) as caught:
        PublicKeys.read(signed.public_file).check(signed.store, manifest)
    assert "\n" not in str(caught.value) and str(signed.path(MANIFEST_FILE)) in str(caught.value)


def test_a_manifest_that_was_read_before_it_was_exchanged_is_refused(signed: Signed) -> None:
    """Otherwise the signature of one manifest would let another one pass."""
    forged = signed.manifest.model_copy(update={"description": "now mine"})
    with pytest.raises(ArtifactInvalid, match="changed while it was read"):
        PublicKeys.read(signed.public_file).check(signed.store, forged)


def test_the_manifest_that_was_signed_is_used_where_python_sees_no_difference(signed: Signed) -> None:
    def with_classes(classes: list[Any]) -> Manifest:
        output = signed.manifest.outputs[0].model_copy(update={"classes": classes})
        return signed.manifest.model_copy(update={"outputs": [output]})

    signed.path(MANIFEST_FILE).write_text(with_classes([0, 1]).model_dump_json())
    sign(signed.store, "iris", "v1", signed.key)

    checked = PublicKeys.read(signed.public_file).check(signed.store, with_classes([False, True]))

    assert [type(each) for each in checked.outputs[0].classes or ()] == [int, int]


def test_one_key_can_replace_another(signed: Signed, tmp_path: Path) -> None:
    new_file = public_file(tmp_path / "new.pub", signed.other_public)
    both_file = tmp_path / "both.pub"
    both_file.write_text(f"# the old one\n{signed.public_file.read_text()}\n# the new one\n{new_file.read_text()}")
    old, both, new = map(PublicKeys.read, (signed.public_file, both_file, new_file))

    old.check(signed.store, signed.manifest)
    both.check(signed.store, signed.manifest)
    sign(signed.store, "iris", "v1", signed.other_key)
    both.check(signed.store, signed.manifest)
    new.check(signed.store, signed.manifest)
    with pytest.raises(ArtifactInvalid):
        old.check(signed.store, signed.manifest)


ELLIPTIC = ec.generate_private_key(ec.SECP256R1()).public_key()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file"),
        (b"", "must hold Ed25519 public keys"),
        (b"text", "must hold Ed25519 public keys"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "not a public key"),
        (ELLIPTIC.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), "must hold Ed25519 public keys"),
    ],
)
def test_a_file_without_usable_keys_is_refused(tmp_path: Path, content: bytes | None, reason: str) -> None:
    path = tmp_path / "model.pub"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=f"MODEL_PUBLIC_KEY: {path}: .*{reason}"):
        PublicKeys.read(path)


def test_a_private_key_is_not_taken_for_a_public_one(signed: Signed) -> None:
    with pytest.raises(ModelError, match="not a public key"):
        PublicKeys.read(signed.key)
