"""From the verified bytes of an artifact to an estimator that is fit to serve."""

import io
import logging
import warnings
import zipfile
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import sklearn
from sklearn.base import BaseEstimator
from sklearn.exceptions import InconsistentVersionWarning

from headrace.errors import ArtifactInvalid, ModelError
from headrace.models.manifest import Manifest
from worker.model.allow_list import AllowList
from worker.model.unpickler import unpickle

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadedEstimator:
    """An estimator with about how many bytes of memory it takes."""

    estimator: Any
    size_bytes: int


def load_estimator(manifest: Manifest, content: bytes | BinaryIO, trust: AllowList) -> LoadedEstimator:
    """Load an artifact whose digest was verified; of a file, which only joblib artifacts may be, arrays are mapped.

    Raises:
        ArtifactInvalid: if it is of another scikit-learn, damaged, or holds what is not trusted; in one line.
    """
    check_version(manifest)
    # The minor version agrees and the samples will be predicted: that says more than a differing patch number.
    warnings.simplefilter("ignore", InconsistentVersionWarning)
    try:
        if isinstance(content, bytes) and manifest.artifact.format == "skops":
            loaded = _skops(content, trust)
        else:
            loaded = _joblib(content, trust)
    except ModelError as error:
        raise ArtifactInvalid(f"{manifest.name} {manifest.version}: {error}") from None
    except Exception as error:
        if is_time_limit(error):
            raise
        logger.debug("%s %s", manifest.name, manifest.version, exc_info=True)
        raise ArtifactInvalid(
            f"{manifest.name} {manifest.version}: not a readable {manifest.artifact.format} artifact: {_line(error)}"
        ) from None
    make_single_threaded(loaded.estimator)
    return loaded


def check_version(manifest: Manifest) -> None:
    """Compare the scikit-learn that exported a model with the one that runs.

    Raises:
        ArtifactInvalid: if major or minor differ; a pickle of another minor version may load and predict nonsense.
    """
    exported, running = manifest.libraries.get("scikit-learn", "unknown"), sklearn.__version__
    if exported.split(".")[:2] != running.split(".")[:2]:
        raise ArtifactInvalid(
            f"{manifest.name} {manifest.version}: exported with scikit-learn {exported}, this worker runs {running}; "
            "major and minor must agree"
        )


def make_single_threaded(estimator: Any) -> None:
    """Set `n_jobs` to 1 in an estimator and all its parts: the worker's pool is what uses the cores."""
    pending: list[Any] = [estimator]
    seen: set[int] = set()
    while pending:
        part = pending.pop()
        if isinstance(part, list | tuple):
            pending.extend(part)
        elif isinstance(part, dict):
            pending.extend(part.values())
        elif isinstance(part, np.ndarray):
            if part.dtype.hasobject:
                pending.extend(part.ravel().tolist())
        elif isinstance(part, BaseEstimator) and id(part) not in seen:
            seen.add(id(part))
            # None stays: it means one already, and some estimators deprecate the parameter.
            if getattr(part, "n_jobs", None) not in (None, 1):
                part.n_jobs = 1
            pending.extend(vars(part).values())


def is_time_limit(error: BaseException) -> bool:
    """Whether Celery's soft time limit interrupted; it is raised inside whatever runs."""
    return type(error).__name__ == "SoftTimeLimitExceeded"


def _joblib(content: bytes | BinaryIO, trust: AllowList) -> LoadedEstimator:
    return LoadedEstimator(*unpickle(content, trust.modules))


def _skops(content: bytes, trust: AllowList) -> LoadedEstimator:
    # Only where a model is of this format: it imports much.
    import skops.io

    unknown = sorted(set(skops.io.get_untrusted_types(data=content)) - trust.skops_types)
    if unknown:
        raise ArtifactInvalid(f"it holds {', '.join(unknown)}, not in SKOPS_TRUSTED_TYPES")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        size_bytes = sum(member.file_size for member in archive.infolist())
    return LoadedEstimator(skops.io.loads(content, trusted=sorted(trust.skops_types)), size_bytes)


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())[:200]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
