"""Loading of an estimator from the verified bytes of an artifact."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import sklearn
from billiard.common import terminate_handler_fired
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.frozen import FrozenEstimator

from headrace.errors import ArtifactInvalid, ModelError
from headrace.loading.bounds import UNBOUNDED
from headrace.loading.parts import parts
from headrace.loading.unpickler import unpickle
from headrace.models.manifest import Manifest
from worker.model.allow_list import AllowList

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadedEstimator:
    """An estimator, and about how many bytes of memory it takes."""

    estimator: Any
    size_bytes: int


def load_estimator(
    manifest: Manifest, content: bytes | BinaryIO, allow_list: AllowList, max_bytes: int = UNBOUNDED
) -> LoadedEstimator:
    """Load an artifact whose digest was verified.

    Args:
        manifest: The version that the artifact belongs to.
        content: The artifact as bytes, or as a sealed file whose large arrays are mapped; only for joblib artifacts.
        allow_list: The modules and types that are trusted.
        max_bytes: The bound of the bytes to which the artifact unpacks.

    Raises:
        ArtifactInvalid: if scikit-learn has another version, or the artifact is damaged, holds objects that are not
            trusted or unpacks to more than the bound. The message has one line.
    """
    check_version(manifest)
    # scikit-learn warns of every other version. Here the minor version agrees, and the samples of the manifest will be
    # predicted, which is a better check than the patch number.
    warnings.simplefilter("ignore", InconsistentVersionWarning)
    try:
        with contained():
            return _read(manifest, content, allow_list, max_bytes)
    except ModelError as error:
        raise ArtifactInvalid(f"{manifest.name} {manifest.version}: {error}") from None
    except ModuleNotFoundError as error:
        raise ArtifactInvalid(
            f"{manifest.name} {manifest.version}: it needs the module {error.name!r}, which this worker can't import: "
            "install it there, or name its folder in PYTHONPATH"
        ) from None
    except Exception as error:
        if is_time_limit(error):
            raise
        logger.debug("%s %s", manifest.name, manifest.version, exc_info=True)
        raise ArtifactInvalid(
            f"{manifest.name} {manifest.version}: not a readable {manifest.artifact.format} artifact: {_summary(error)}"
        ) from None


def _read(manifest: Manifest, content: bytes | BinaryIO, allow_list: AllowList, max_bytes: int) -> LoadedEstimator:
    if isinstance(content, bytes) and manifest.artifact.format == "skops":
        # Imported only for models of this format, because skops imports many modules.
        from headrace.loading.archive import load_skops

        estimator, size_bytes = load_skops(content, allow_list.skops_types, max_bytes)
    else:
        estimator, size_bytes = unpickle(content, allow_list.modules, max_bytes)
    make_single_threaded(estimator)
    return LoadedEstimator(estimator, size_bytes)


def check_version(manifest: Manifest) -> None:
    """Check that a model was exported with the major and minor version of scikit-learn that runs here.

    A pickle of another minor version may load without an error and predict nonsense.

    Raises:
        ArtifactInvalid: if it was exported with another one.
    """
    exported, running = manifest.libraries.get("scikit-learn", "unknown"), sklearn.__version__
    if exported.split(".")[:2] != running.split(".")[:2]:
        raise ArtifactInvalid(
            f"{manifest.name} {manifest.version}: exported with scikit-learn {exported}, this worker runs {running}; "
            "major and minor must agree"
        )


def make_single_threaded(estimator: Any) -> None:
    """Set `n_jobs` to 1 in an estimator and all its parts, because the worker's pool uses the cores already."""
    for part in parts(estimator):
        # None means one job already, and some estimators deprecate the parameter. A FrozenEstimator has that of its
        # estimator, which is a part too.
        if not isinstance(part, FrozenEstimator) and getattr(part, "n_jobs", None) not in (None, 1):
            part.n_jobs = 1


def is_time_limit(error: BaseException) -> bool:
    """Return True if an exception is Celery's soft time limit, which is raised inside any code that runs.

    It is compared by name, so that this module does not import Celery.
    """
    return type(error).__name__ == "SoftTimeLimitExceeded"


class ModelExit(Exception):
    """An exception of a model that is no `Exception`, such as SystemExit, by its name: it ends no more than a batch."""


@contextmanager
def contained() -> Iterator[None]:
    """Raise exceptions that would end the process, or pass all handlers of `Exception`, as ModelExit.

    The exception with which a pool child ends at a signal passes.
    """
    try:
        yield
    except Exception:
        raise
    except BaseException as error:
        if terminate_handler_fired():
            raise
        raise ModelExit(type(error).__name__) from error


def name_of(error: Exception) -> str:
    """Return the name of an exception's type; of a ModelExit, that of the exception that it stands for."""
    return error.args[0] if isinstance(error, ModelExit) else type(error).__name__


def _summary(error: Exception) -> str:
    try:
        # Foreign code may have made the exception.
        with contained():
            text = "" if isinstance(error, ModelExit) else " ".join(str(error).split())[:200]
    except Exception:
        text = ""
    return f"{name_of(error)}: {text}" if text else name_of(error)
