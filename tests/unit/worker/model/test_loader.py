import hashlib
import io
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import sklearn
import skops.io
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from headrace.errors import ArtifactInvalid, ModelError
from headrace.models.manifest import Artifact, Manifest
from headrace.models.store import ModelStore
from tests.support.exported import fitted
from tests.unit.worker.conftest import Publish, rewrite, rows_of
from worker.model.allow_list import AllowList
from worker.model.loader import load_estimator, make_single_threaded
from worker.model.predictor import Predictor

MAJOR, MINOR, *_ = sklearn.__version__.split(".")


def artifact_path(store: ModelStore, manifest: Manifest) -> Path:
    return Path(store.location(manifest.name, manifest.version)) / manifest.artifact.file


def replace_artifact(store: ModelStore, manifest: Manifest, content: bytes) -> Manifest:
    """Replace an artifact and its digest in the manifest, as an intruder or a mistake would do."""
    artifact_path(store, manifest).write_bytes(content)
    artifact = manifest.artifact.model_copy(
        update={"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
    )
    return rewrite(store, manifest, artifact=artifact)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-1],
        lambda content: content[: len(content) // 2],
        lambda content: b"",
        lambda content: b"x" + content[1:],
    ],
    ids=["end missing", "half missing", "empty", "one byte"],
)
def test_a_damaged_artifact_is_refused_by_its_digest(
    store: ModelStore, publish: Publish, damage: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = publish("m")
    path = artifact_path(store, manifest)
    path.write_bytes(damage(path.read_bytes()))
    monkeypatch.setattr("worker.model.loader.unpickle", lambda *_: pytest.fail("unpickled"))

    with pytest.raises(ArtifactInvalid):
        Predictor.load(store, manifest)


def test_a_missing_artifact_is_refused(store: ModelStore, publish: Publish) -> None:
    manifest = publish("m")
    artifact_path(store, manifest).unlink()

    with pytest.raises(ModelError):
        Predictor.load(store, manifest)


def test_the_artifact_of_another_version_is_refused(store: ModelStore, publish: Publish) -> None:
    first = publish("m", "v1")
    rows = np.array([[0.0] * 4, [1.0] * 4])
    second = publish("m", "v2", LogisticRegression(C=0.5).fit(rows, ["a", "b"]), rows)
    artifact_path(store, first).write_bytes(artifact_path(store, second).read_bytes())

    with pytest.raises(ArtifactInvalid):
        Predictor.load(store, first)


@pytest.mark.parametrize("content", [b"", b"not a pickle", b"\x80\x04", b"\x80\x04K\x01"], ids=repr)
def test_what_is_no_artifact_is_refused_in_one_line(store: ModelStore, publish: Publish, content: bytes) -> None:
    manifest = publish("m")

    with pytest.raises(ArtifactInvalid, match=r"^m v1: not a readable joblib artifact: .+") as caught:
        load_estimator(manifest, content, AllowList())

    assert "\n" not in str(caught.value)


def test_truncation_that_the_digest_covers_is_refused(store: ModelStore, publish: Publish) -> None:
    manifest = publish("m")
    content = artifact_path(store, manifest).read_bytes()
    for length in range(0, len(content), max(1, len(content) // 50)):
        with pytest.raises(ArtifactInvalid):
            load_estimator(manifest, content[:length], AllowList())


class Attack:
    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self._path}",)


def test_a_malicious_artifact_with_the_right_digest_is_refused(
    store: ModelStore, publish: Publish, tmp_path: Path
) -> None:
    stream = io.BytesIO()
    joblib.dump({"estimator": [Attack(tmp_path / "ran")]}, stream)
    manifest = replace_artifact(store, publish("m"), stream.getvalue())

    with pytest.raises(ArtifactInvalid, match=r"^m v1: it needs (posix|os|nt)\.system, which is not trusted"):
        Predictor.load(store, manifest)

    assert not (tmp_path / "ran").exists()


class Leaving:
    def __setstate__(self, state: Any) -> None:
        sys.exit(3)


class Silent(Exception):
    def __str__(self) -> str:
        raise SystemExit("shown")


class Mute:
    def __setstate__(self, state: Any) -> None:
        raise Silent


@pytest.mark.parametrize(("kind", "reason"), [(Leaving, "SystemExit"), (Mute, "Silent")])
def test_an_artifact_that_ends_its_reader_is_refused(
    store: ModelStore, publish: Publish, kind: type, reason: str
) -> None:
    stream = io.BytesIO()
    part = kind()
    part.x = 1
    joblib.dump({"estimator": part}, stream)

    with pytest.raises(ArtifactInvalid, match=f"not a readable joblib artifact: {reason}$"):
        load_estimator(publish("m"), stream.getvalue(), AllowList(modules=frozenset([__name__])))


@pytest.mark.parametrize(
    ("exported_with", "loads"),
    [
        (sklearn.__version__, True),
        (f"{MAJOR}.{MINOR}.99", True),
        (f"{MAJOR}.{MINOR}.0rc1", True),
        (f"{MAJOR}.{int(MINOR) + 1}.0", False),
        (f"{int(MAJOR) - 1}.{MINOR}.0", False),
        (f"{MAJOR}.{MINOR}9.0", False),
        (None, False),
    ],
)
def test_another_minor_version_of_scikit_learn_is_refused(
    store: ModelStore, publish: Publish, exported_with: str | None, loads: bool
) -> None:
    manifest = publish("m")
    libraries = {name: version for name, version in manifest.libraries.items() if name != "scikit-learn"}
    if exported_with:
        libraries["scikit-learn"] = exported_with
    changed = rewrite(store, manifest, libraries=libraries)

    if loads:
        Predictor.load(store, changed)
        return
    with pytest.raises(ArtifactInvalid, match="exported with scikit-learn") as caught:
        Predictor.load(store, changed)
    assert f"scikit-learn {exported_with or 'unknown'}, this worker runs {sklearn.__version__}" in str(caught.value)


def test_every_part_works_in_one_thread() -> None:
    rows, y = np.array([[0.0, 1.0], [1.0, 0.0]] * 5), np.array([0, 1] * 5)
    forest = RandomForestClassifier(2)
    estimators = [
        make_pipeline(StandardScaler(), forest),
        ColumnTransformer([("scale", StandardScaler(), [0])]),
        GridSearchCV(make_pipeline(forest), {"randomforestclassifier__max_depth": [1]}, cv=2),
        VotingClassifier([("a", forest), ("b", make_pipeline(forest))]),
    ]
    fitted = [each.fit(rows, y) for each in estimators]
    fitted.append(MultiOutputClassifier(forest).fit(rows, np.column_stack([y, y])))

    for estimator in fitted:
        for part in _parts(estimator):
            if hasattr(part, "n_jobs"):
                part.n_jobs = 2

        make_single_threaded(estimator)

        asked = [part.n_jobs for part in _parts(estimator) if hasattr(part, "n_jobs")]
        assert asked
        assert set(asked) == {1}


def _parts(value: Any, seen: set[int] | None = None) -> list[BaseEstimator]:
    seen = set() if seen is None else seen
    if id(value) in seen:
        return []
    seen.add(id(value))
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [part for each in value for part in _parts(each, seen)]
    if not isinstance(value, BaseEstimator):
        return []
    return [value, *_parts(vars(value), seen)]


SKOPS_CASES = {
    "logistic regression": [],
    "ridge": [],
    "clusters": [],
    "mixed frame": ["numpy.dtype"],
    "forest of integer classes": ["sklearn.tree._tree.Tree"],
}
"""Case -> the types that skops does not trust by default."""


@pytest.mark.parametrize("case", SKOPS_CASES)
def test_skops_artifacts_predict_their_samples(store: ModelStore, publish: Publish, case: str) -> None:
    types = SKOPS_CASES[case]
    manifest = publish("m", "v1", fitted(case).estimator, fitted(case).X, format="skops", trusted=types)

    predictor = Predictor.load(store, manifest, AllowList(skops_types=frozenset(types)))

    assert predictor.predict(rows_of(manifest)).failures == {}
    assert predictor.size_bytes > manifest.artifact.size_bytes
    if types:
        with pytest.raises(ArtifactInvalid, match=re.escape(f"it holds {types[0]}, not in SKOPS_TRUSTED_TYPES")):
            Predictor.load(store, manifest)


def test_a_skops_artifact_holds_what_is_trusted_only(store: ModelStore, publish: Publish) -> None:
    content = skops.io.dumps(make_pipeline(StandardScaler(), _Unknown()))
    manifest = publish("m")
    skops_manifest = manifest.model_copy(update={"artifact": manifest.artifact.model_copy(update={"format": "skops"})})
    unknown = f"{_Unknown.__module__}._Unknown"

    with pytest.raises(ArtifactInvalid, match=rf"^m v1: it holds {unknown}, not in SKOPS_TRUSTED_TYPES$"):
        load_estimator(skops_manifest, content, AllowList())

    loaded = load_estimator(skops_manifest, content, AllowList(skops_types=frozenset([unknown])))
    assert isinstance(loaded.estimator[-1], _Unknown)


class _Unknown(BaseEstimator):  # type: ignore[misc]
    pass


def test_a_pickle_that_is_called_skops_is_never_unpickled(store: ModelStore, publish: Publish, tmp_path: Path) -> None:
    stream = io.BytesIO()
    joblib.dump(Attack(tmp_path / "ran"), stream)
    manifest = publish("m")
    artifact = Artifact(**{**manifest.artifact.model_dump(), "format": "skops"})

    with pytest.raises(ArtifactInvalid, match="not a readable skops artifact: BadZipFile"):
        load_estimator(manifest.model_copy(update={"artifact": artifact}), stream.getvalue(), AllowList())

    assert not (tmp_path / "ran").exists()
