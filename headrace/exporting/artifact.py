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
from sklearn.base import BaseEstimator

from headrace.errors import NotExportable
from headrace.exporting.pickled import foreign_names, imported_names
from headrace.models.manifest import Artifact

ArtifactFormat = Literal["joblib", "skops"]

CLONE = Path(__file__).parents[2]
"""The folder that contains `headrace`: in a clone, it contains the packages of the service too."""

SERVICE_PACKAGES = frozenset(
    ["bench", "demo", "gateway", "headrace", "monitoring", "scripts", "shared", "tests", "training", "worker"]
)
"""Names that a worker finds in its own folder before it looks anywhere else."""

ARTIFACT_FILES: dict[ArtifactFormat, str] = {"joblib": "model.pkl", "skops": "model.skops"}


def write_artifact(
    estimator: Any,
    folder: Path,
    *,
    format: ArtifactFormat = "joblib",  # noqa: A002 - the manifest's word
    trusted: Collection[str] = (),
    extra_modules: Collection[str] = (),
) -> Artifact:
    """Serialize a copy of a fitted estimator into `folder`.

    Raises:
        NotExportable: if a worker could not load the artifact.
    """
    path = folder / ARTIFACT_FILES[format]
    estimator = single_threaded(estimator)
    if format == "joblib":
        _refuse_foreign(estimator, extra_modules)
        joblib.dump(estimator, path)
        content = path.read_bytes()
    else:
        content = _skops_bytes(estimator, trusted)
        path.write_bytes(content)
    return Artifact(file=path.name, format=format, sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content))


def read_artifact(artifact: Artifact, folder: Path, trusted: Collection[str] = ()) -> Any:
    """Load an estimator as a worker does. Use it for trusted files only: loading a pickle executes its content."""
    path = folder / artifact.file
    if artifact.format == "skops":
        return skops.io.load(path, trusted=list(trusted))
    return joblib.load(path)


def single_threaded(estimator: Any) -> Any:
    """Return a copy in which `n_jobs` is 1 everywhere: the cores are used by the children of the worker's pool.

    The copy's fitted parts are walked, because `set_params` does not reach them in searches and ensembles.

    Raises:
        NotExportable: if the estimator can't be copied.
    """
    try:
        fitted = copy.deepcopy(estimator)
    except Exception as error:
        raise _unstorable(error) from None
    pending: list[Any] = [fitted]
    seen: set[int] = set()
    while pending:
        part = pending.pop()
        if isinstance(part, (list, tuple)):
            pending.extend(part)
        elif isinstance(part, BaseEstimator) and id(part) not in seen:
            seen.add(id(part))
            # None is left alone: it means one job already, and some estimators deprecate the parameter.
            if getattr(part, "n_jobs", None) not in (None, 1):
                part.n_jobs = 1
            pending.extend(vars(part).values())
    return fitted


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
    packages = sorted({name.partition(".")[0] for name in foreign})
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
