from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from headrace.errors import ArtifactInvalid, ModelError
from headrace.models.manifest import MANIFEST_FILE, SIGNATURE_FILE, Manifest
from headrace.models.signing import sign
from headrace.models.store import ModelStore
from tests.support.signing import public_file, signing_key
from tests.unit.worker.conftest import Publish, rewrite
from worker.model import predictor
from worker.model.allow_list import AllowList
from worker.model.cache import PredictorCache
from worker.model.predictor import Predictor
from worker.model.signature import PublicKeys
from worker.settings import WorkerSettings


class Signing:
    """A store with a signed version, and who must have signed it."""

    def __init__(self, store: ModelStore, publish: Publish, folder: Path) -> None:
        self.store = store
        self.key, public = signing_key(folder / "model.key")
        self.other_key, self.other_public = signing_key(folder / "other.key")
        self.public_file = public_file(folder / "model.pub", public)
        self.manifest = publish("m")
        self.publish = publish
        sign(store, "m", "v1", self.key)

    def path(self, file: str, version: str = "v1") -> Path:
        return Path(self.store.location("m", version), file)

    def load(self, manifest: Manifest | None = None) -> Predictor:
        manifest = manifest or self.store.manifest("m", "v1")
        return Predictor.load(self.store, manifest, AllowList(signers=PublicKeys.read(self.public_file)))


@pytest.fixture
def signing(store: ModelStore, publish: Publish, tmp_path: Path) -> Signing:
    return Signing(store, publish, tmp_path)


def test_a_signed_version_is_loaded(signing: Signing) -> None:
    assert signing.load().manifest == signing.manifest


def unsigned(signing: Signing) -> None:
    signing.path(SIGNATURE_FILE).unlink()


def signed_by_another(signing: Signing) -> None:
    sign(signing.store, "m", "v1", signing.other_key)


def changed_manifest(signing: Signing) -> None:
    rewrite(signing.store, signing.manifest, description="now mine")


def one_more_space(signing: Signing) -> None:
    path = signing.path(MANIFEST_FILE)
    path.write_bytes(path.read_bytes() + b" ")


def changed_signature(signing: Signing) -> None:
    content = bytearray(signing.path(SIGNATURE_FILE).read_bytes())
    content[10] ^= 1
    signing.path(SIGNATURE_FILE).write_bytes(content)


def short_signature(signing: Signing) -> None:
    signing.path(SIGNATURE_FILE).write_bytes(b"")


def signature_of_another_version(signing: Signing) -> None:
    signing.publish("m", "v2")
    sign(signing.store, "m", "v2", signing.key)
    signing.path(SIGNATURE_FILE).write_bytes(signing.path(SIGNATURE_FILE, "v2").read_bytes())


@pytest.mark.parametrize(
    ("attack", "said"),
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
def test_what_is_not_signed_is_refused_before_the_artifact_is_opened(
    signing: Signing, monkeypatch: pytest.MonkeyPatch, attack: Callable[[Signing], None], said: str
) -> None:
    attack(signing)
    for opens in ("verified_file", "load_estimator"):
        monkeypatch.setattr(predictor, opens, pytest.fail)
    monkeypatch.setattr(ModelStore, "artifact", pytest.fail)

    with pytest.raises(ArtifactInvalid, match=said) as caught:
        signing.load()
    assert "\n" not in str(caught.value) and str(signing.path(MANIFEST_FILE)) in str(caught.value)


def test_a_changed_artifact_does_not_fit_the_signed_digest(signing: Signing) -> None:
    path = signing.path(signing.manifest.artifact.file)
    path.write_bytes(path.read_bytes() + b"?")
    with pytest.raises(ArtifactInvalid, match="SHA-256"):
        signing.load()


def test_a_manifest_that_was_read_before_it_was_exchanged_is_refused(signing: Signing) -> None:
    """Else what is signed would be looked at, and what was read be loaded."""
    forged = signing.manifest.model_copy(update={"description": "now mine"})
    with pytest.raises(ArtifactInvalid, match="changed while it was read"):
        signing.load(forged)


def test_without_keys_nobody_need_have_signed(signing: Signing) -> None:
    unsigned(signing)
    assert Predictor.load(signing.store, signing.manifest).manifest == signing.manifest


def test_keys_follow_each_other(signing: Signing, tmp_path: Path) -> None:
    old = PublicKeys.read(signing.public_file)
    both = PublicKeys.read(_joined(tmp_path / "both.pub", signing))
    new = PublicKeys.read(public_file(tmp_path / "new.pub", signing.other_public))

    old.check(signing.store, signing.manifest)
    both.check(signing.store, signing.manifest)
    sign(signing.store, "m", "v1", signing.other_key)
    both.check(signing.store, signing.manifest)
    new.check(signing.store, signing.manifest)
    with pytest.raises(ArtifactInvalid):
        old.check(signing.store, signing.manifest)


def _joined(path: Path, signing: Signing) -> Path:
    new = public_file(path, signing.other_public).read_text()
    path.write_text(f"# the old one\n{signing.public_file.read_text()}\n# the new one\n{new}")
    return path


def test_a_refusal_is_told_and_counted_as_every_other(signing: Signing, caplog: pytest.LogCaptureFixture) -> None:
    unsigned(signing)
    loads: list[tuple[Manifest | None, float | None]] = []
    cache = PredictorCache(signing.store, 10**9, trust=AllowList(signers=PublicKeys.read(signing.public_file)))
    cache.on_load = lambda *load: loads.append(load)

    for _ in range(2):
        with pytest.raises(ModelError, match="it is not signed"):
            cache.get("m", "v1")

    assert loads == [(signing.manifest, None)]
    assert "it is not signed" in cache.refused()["m", "v1"]
    [line] = [line for line in caplog.messages if line.startswith("refused m v1: ")]
    assert line.endswith("it is not signed, and MODEL_PUBLIC_KEY asks for that")


ELLIPTIC = ec.generate_private_key(ec.SECP256R1()).public_key()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file"),
        (b"", "must hold Ed25519 public keys"),
        (b"text", "must hold Ed25519 public keys"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "no public key"),
        (ELLIPTIC.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), "must hold Ed25519 public keys"),
    ],
)
def test_a_file_that_holds_no_such_keys_ends_the_worker(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "model.pub"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=f"MODEL_PUBLIC_KEY: {path}: .*{said}"):
        _ = WorkerSettings(model_public_key=path, prometheus_multiproc_dir=tmp_path).trust


def test_a_private_key_is_not_taken_for_a_public_one(signing: Signing) -> None:
    with pytest.raises(ModelError, match="no public key"):
        PublicKeys.read(signing.key)


def test_the_setting_makes_the_keys(signing: Signing, tmp_path: Path) -> None:
    settings = WorkerSettings(model_public_key=signing.public_file, prometheus_multiproc_dir=tmp_path)
    assert settings.trust.signers is not None
    settings.trust.signers.check(signing.store, signing.manifest)
    assert WorkerSettings(prometheus_multiproc_dir=tmp_path).trust.signers is None
