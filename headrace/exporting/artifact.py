"""Artifacts: the files that hold fitted estimators."""

import copy
import hashlib
import io
import pickle
import sys
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, Literal

import joblib
import skops.io
from sklearn.frozen import FrozenEstimator

from headrace.data.attributes import explained
from headrace.errors import NotExportable
from headrace.exporting.pickled import foreign_names, imported_names
from headrace.loading.archive import load_skops
from headrace.loading.bounds import UNBOUNDED
from headrace.loading.parts import parts
from headrace.loading.tokens import is_library
from headrace.loading.unpickler import unpickle
from headrace.models.manifest import Artifact

ArtifactFormat = Literal["joblib", "skops"]

CLONE = Path(__file__).parents[2]
"""The folder that contains `headrace`: in a clone, it contains the packages of the service too."""

SERVICE_PACKAGES = frozenset(
    ["bench", "demo", "gateway", "headrace", "monitoring", "scripts", "shared", "tests", "training", "worker"]
)
"""Names that a worker finds in its own folder before it looks anywhere else."""

ARTIFACT_FILES: dict[ArtifactFormat, str] = {"joblib": "model.pkl", "skops": "model.skops"}


def store_estimator(
    estimator: Any,
    folder: Path,
    *,
    format: ArtifactFormat,  # noqa: A002 - the manifest's word
    trusted: Collection[str] = (),
    extra_modules: Collection[str] = (),
) -> tuple[Artifact, Any]:
    """Serialize a copy of a fitted estimator into `folder`.

    Returns:
        The description of the artifact, and the estimator as it is read from it.

    Raises:
        NotExportable: if a worker could not load the artifact.
    """
    path = folder / ARTIFACT_FILES[format]
    estimator = served_copy(estimator)
    if format == "joblib":
        _refuse_foreign(estimator, extra_modules)
        joblib.dump(estimator, path)
        content = path.read_bytes()
    else:
        content = _skops_bytes(estimator, trusted)
        path.write_bytes(content)
    artifact = Artifact(
        file=path.name, format=format, sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content)
    )
    try:
        return artifact, read_artifact(artifact, content, trusted, extra_modules)
    except Exception as error:
        raise NotExportable(f"it can't be read back from {path.name}: {type(error).__name__}: {error}") from error


def read_artifact(
    artifact: Artifact,
    content: bytes,
    trusted: Collection[str] = (),
    extra_modules: Collection[str] = (),
    max_bytes: int = UNBOUNDED,
) -> Any:
    """Read the estimator in an artifact, as a worker does.

    Args:
        artifact: the description of the artifact.
        content: the artifact.
        trusted: types that a skops artifact may hold beside those that skops trusts by itself.
        extra_modules: modules of which a joblib artifact may use everything.
        max_bytes: the bound of the bytes to which the artifact unpacks.

    Raises:
        ArtifactInvalid: if it holds anything else than the parts of fitted estimators and what is trusted, or unpacks
            to more.
        Exception: any error to which a damaged artifact leads.
    """
    if artifact.format == "joblib":
        return unpickle(content, extra_modules, max_bytes)[0]
    return load_skops(content, trusted, max_bytes)[0]


def served_copy(estimator: Any) -> Any:
    """Return a copy of an estimator for serving.

    In all its parts `n_jobs` is 1, because the children of the worker's pool use the cores already; `memory` is None,
    because it names a folder of this machine; and there are no scorers, which only a fit or `score` uses.

    Raises:
        NotExportable: if the estimator can't be copied.
    """
    try:
        fitted = copy.deepcopy(estimator)
    except Exception as error:
        raise _unstorable(error) from None
    for part in parts(fitted):
        _make_servable(part)
    return fitted


def _make_servable(part: Any) -> None:
    if isinstance(part, FrozenEstimator):
        # Attributes that it does not have are those of its estimator, which is a part too.
        return
    with explained("n_jobs"):
        n_jobs = getattr(part, "n_jobs", None)
        # None is left alone: it means one job already, and some estimators deprecate the parameter.
        if n_jobs is not None and not (isinstance(n_jobs, int) and n_jobs == 1):
            part.n_jobs = 1
    if vars(part).get("memory") is not None:
        part.memory = None
    if not isinstance(vars(part).get("scoring"), str | None):
        part.scoring = None
    # A search without `scoring` has an object that asks the estimator for its score.
    with explained("scorer_"):
        if hasattr(part, "scorer_") and type(part.scorer_).__name__ != "_PassthroughScorer":
            del part.scorer_


def _refuse_foreign(estimator: Any, extra_modules: Collection[str]) -> None:
    buffer = io.BytesIO()
    try:
        pickle.Pickler(buffer, protocol=4).dump(estimator)
    except Exception as error:
        raise _unstorable(error) from None
    _refuse_shadowed(module for module, _ in imported_names(buffer.getvalue()))
    foreign = foreign_names(buffer.getvalue(), extra_modules)
    if not foreign:
        return
    if any(name.startswith("__main__.") for name in foreign):
        raise NotExportable(
            f"{', '.join(foreign)} is defined in the program that was started, which a worker doesn't have: "
            "move it into a module that workers can import"
        )
    if any(name.startswith("scipy.stats.") for name in foreign):
        raise NotExportable(
            f"workers refuse {', '.join(foreign)}, which run code when they are loaded. A RandomizedSearchCV holds "
            "the distributions that it drew from: export its best_estimator_"
        )
    if any(name.startswith("sklearn.metrics._scorer.") for name in foreign):
        raise NotExportable(
            f"workers refuse {', '.join(foreign)}, which call what they hold: instead of a TunedThresholdClassifierCV "
            "export a FixedThresholdClassifier with its best_threshold_"
        )
    packages = sorted({name.partition(".")[0] for name in foreign})
    known = list(filter(is_library, foreign))
    if known:
        raise NotExportable(
            f"workers refuse {', '.join(known)}, with which a pickle could run other code: put a class or function "
            "that uses it into a module of yours that workers can import"
        )
    raise NotExportable(
        f"workers refuse {', '.join(foreign)}. If they can import it (installed, or in a folder of PYTHONPATH), export "
        f"with extra_modules={tuple(packages)!r} and start them with TRUSTED_MODULES={','.join(packages)}"
    )


def _refuse_shadowed(modules: Iterable[str]) -> None:
    """Refuse modules of the exporter in whose place a worker would import a package of the service.

    Raises:
        NotExportable: if there is one.
    """
    for package in sorted({module.partition(".")[0] for module in modules} & SERVICE_PACKAGES):
        if not _is_of_the_service(package):
            raise NotExportable(
                f"it holds parts of your {package!r}, and the service has a package of that name, which workers import "
                f"instead: give yours another name"
            )


def _is_of_the_service(package: str) -> bool:
    """Tell whether a package that was imported here is that of a clone of the project."""
    found = sys.modules.get(package)
    places = [*getattr(found, "__path__", ()), *filter(None, [getattr(found, "__file__", None)])]
    return (CLONE / "gateway").is_dir() and all(Path(place).is_relative_to(CLONE) for place in places)


def _skops_bytes(estimator: Any, trusted: Collection[str]) -> bytes:
    try:
        content: bytes = skops.io.dumps(estimator)
        unknown = sorted(set(skops.io.get_untrusted_types(data=content)) - set(trusted))
    except Exception as error:
        raise NotExportable(f"skops can't store it: {type(error).__name__}: {error}") from None
    _refuse_shadowed(trusted)
    if unknown:
        raise NotExportable(
            f"skops does not trust {', '.join(unknown)}. If you do, export with trusted={tuple(unknown)!r} "
            f"and start the workers with SKOPS_TRUSTED_TYPES={','.join(unknown)}"
        )
    return content


def _unstorable(error: Exception) -> NotExportable:
    reason = str(error)
    if "<lambda>" in reason or "<locals>" in reason or "local object" in reason:
        return NotExportable(
            f"it holds a lambda or a function or class from inside of a function, which no file can hold ({reason}): "
            "define it at the top of a module that workers can import"
        )
    return NotExportable(f"it can't be stored: {type(error).__name__}: {reason}")
