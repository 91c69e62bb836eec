"""Helpers for tests of the command line: versions in a store, and a call of the command."""

import hashlib
import json
from pathlib import Path
from typing import Any

import joblib
from sklearn.dummy import DummyClassifier

from headrace.cli.main import main
from headrace.models.store import ModelStore
from tests.unit.headrace.models.test_manifest import document


def run(*arguments: str) -> int:
    return main(arguments)


def add(store: ModelStore, version: str, name: str = "iris", **changes: Any) -> None:
    """Add a version whose artifact predicts as its manifest says."""

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
