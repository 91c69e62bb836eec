"""Loading of signed versions; the check itself is tested in tests/unit/headrace/models/test_signing.py."""

from pathlib import Path

import pytest

from headrace.errors import ArtifactInvalid, ModelError
from headrace.models.manifest import SIGNATURE_FILE, Manifest
from headrace.models.signing import PublicKeys, sign
from headrace.models.store import ModelStore
from tests.support.signing import public_file, signing_key
from tests.unit.worker.conftest import Publish
from worker.model import predictor
from worker.model.allow_list import AllowList
from worker.model.cache import PredictorCache
from worker.model.predictor import Predictor
from worker.settings import WorkerSettings


class Signed:
    """A store with a signed version, and the worker's settings that ask for the signature."""

    def __init__(self, store: ModelStore, publish: Publish, folder: Path) -> None:
        self.store = store
        key, public = signing_key(folder / "model.key")
        self.public_file = public_file(folder / "model.pub", public)
        self.settings = WorkerSettings(model_public_key=self.public_file, prometheus_multiproc_dir=folder)
        self.manifest = publish("m")
        sign(store, "m", "v1", key)

    def remove_signature(self) -> None:
        Path(self.store.location("m", "v1"), SIGNATURE_FILE).unlink()

    def load(self) -> Predictor:
        return Predictor.load(self.store, self.manifest, self.settings.allow_list)


@pytest.fixture
def signed(store: ModelStore, publish: Publish, tmp_path: Path) -> Signed:
    return Signed(store, publish, tmp_path)


def test_a_signed_version_is_loaded(signed: Signed) -> None:
    assert signed.load().manifest == signed.manifest


def test_an_unsigned_version_is_refused_before_its_artifact_is_opened(
    signed: Signed, monkeypatch: pytest.MonkeyPatch
) -> None:
    signed.remove_signature()
    for opens in ("private_copy", "load_estimator"):
        monkeypatch.setattr(predictor, opens, pytest.fail)
    monkeypatch.setattr(ModelStore, "copy_artifact", pytest.fail)

    with pytest.raises(ArtifactInvalid, match="it is not signed"):
        signed.load()


def test_a_changed_artifact_does_not_fit_the_signed_digest(signed: Signed) -> None:
    path = Path(signed.store.location("m", "v1"), signed.manifest.artifact.file)
    path.write_bytes(path.read_bytes() + b"?")
    with pytest.raises(ArtifactInvalid, match="SHA-256"):
        signed.load()


def test_without_keys_no_signature_is_needed(signed: Signed, tmp_path: Path) -> None:
    signed.remove_signature()
    allow_list = WorkerSettings(prometheus_multiproc_dir=tmp_path).allow_list
    assert allow_list.signers is None
    assert Predictor.load(signed.store, signed.manifest, allow_list).manifest == signed.manifest


def test_a_refusal_is_logged_and_counted_like_every_other(signed: Signed, caplog: pytest.LogCaptureFixture) -> None:
    signed.remove_signature()
    loads: list[tuple[Manifest | None, float | None]] = []
    cache = PredictorCache(signed.store, 10**9, allow_list=AllowList(signers=PublicKeys.read(signed.public_file)))
    cache.on_load = lambda *load: loads.append(load)

    for _ in range(2):
        with pytest.raises(ModelError, match="it is not signed"):
            cache.get("m", "v1")

    assert loads == [(signed.manifest, None)]
    assert "it is not signed" in cache.refused()["m", "v1"]
    [line] = [line for line in caplog.messages if line.startswith("refused m v1: ")]
    assert line.endswith("it is not signed, and MODEL_PUBLIC_KEY asks for that")


def test_a_file_without_usable_keys_ends_the_worker(tmp_path: Path) -> None:
    path = tmp_path / "model.pub"
    path.write_bytes(b"text")
    with pytest.raises(ModelError, match=f"MODEL_PUBLIC_KEY: {path}: .*must hold Ed25519 public keys"):
        _ = WorkerSettings(model_public_key=path, prometheus_multiproc_dir=tmp_path).allow_list
