"""The file that holds a fitted estimator."""

import copy
import hashlib
from pathlib import Path
from typing import Any

import joblib
from sklearn.base import BaseEstimator

from shared.manifest import Artifact

ARTIFACT_FILE = "model.pkl"


def write_artifact(estimator: Any, folder: Path) -> Artifact:
    """Serialize a fitted estimator into `folder`; the estimator that was passed stays as it is."""
    path = folder / ARTIFACT_FILE
    joblib.dump(single_threaded(estimator), path)
    content = path.read_bytes()
    return Artifact(
        file=ARTIFACT_FILE, format="joblib", sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content)
    )


def single_threaded(estimator: Any) -> Any:
    """A copy in which no part asks for more than one job: the worker's pool is what uses the cores.

    It walks the fitted parts, because `set_params` does not reach them in searches and ensembles.
    """
    fitted = copy.deepcopy(estimator)
    pending: list[Any] = [fitted]
    seen: set[int] = set()
    while pending:
        part = pending.pop()
        if isinstance(part, (list, tuple)):
            pending.extend(part)
        elif isinstance(part, BaseEstimator) and id(part) not in seen:
            seen.add(id(part))
            # None stays: it means one already, and some estimators deprecate the parameter.
            if getattr(part, "n_jobs", None) not in (None, 1):
                part.n_jobs = 1
            pending.extend(vars(part).values())
    return fitted
