"""Estimators as MLflow stored them, read by the rules of workers; a pickle that breaks these runs code."""

import pickle
from collections.abc import Collection
from typing import Any

import sklearn

from headrace.errors import ArtifactInvalid, MlflowUnusable
from headrace.loading.archive import load_skops
from headrace.loading.unpickler import unpickle
from headrace.mlflow.mlmodel import MlflowModel

PICKLE_REFUSED = (
    "a pickle can run any code while it is read, and this one needs more than the parts of fitted estimators, which "
    "workers read without running it. If you would run a program of whoever made it, allow that with --trust-pickle"
)


def check_version(model: MlflowModel, where: str) -> None:
    """Check that a model was fitted with the minor version of scikit-learn that is installed.

    Raises:
        MlflowUnusable: if not: scikit-learn may read it all the same, and predict otherwise.
    """
    if model.sklearn_version.split(".")[:2] != sklearn.__version__.split(".")[:2]:
        raise MlflowUnusable(
            f"{where}: it was saved with scikit-learn {model.sklearn_version}, and {sklearn.__version__} is installed "
            "here, which may predict otherwise: fit it again, or import it where that version is installed"
        )


def read_estimator(
    model: MlflowModel,
    content: bytes,
    where: str,
    *,
    trusted: Collection[str] = (),
    extra_modules: Collection[str] = (),
    trust_pickle: bool = False,
    max_bytes: int,
) -> Any:
    """Return the fitted estimator in the file of a model.

    Args:
        model: what MLflow says of the model.
        content: the file.
        where: the name of the model in errors.
        trusted: types that a skops file may hold beside those that skops trusts by itself. Those in `MLmodel` are not
            among them, because whoever made the file wrote that list too.
        extra_modules: modules of which a pickle may use everything.
        trust_pickle: True to read a pickle as Python does if workers would refuse it.
        max_bytes: the bytes to which the file may unpack.

    Raises:
        MlflowUnusable: if it can't be read, or holds what is not trusted.
    """
    try:
        if model.serialization == "skops":
            return load_skops(content, trusted, max_bytes)[0]
        try:
            return unpickle(content, extra_modules, max_bytes)[0]
        except ArtifactInvalid as error:
            if trust_pickle:
                return pickle.loads(content)
            raise MlflowUnusable(f"{where}: {error}; {PICKLE_REFUSED}") from None
    except MlflowUnusable:
        raise
    except ArtifactInvalid as error:
        raise MlflowUnusable(f"{where}: {error} (--trusted names types that you trust)") from None
    except Exception as error:
        # Damaged files, and classes that are not here, lead to errors of any kind.
        raise MlflowUnusable(f"{where}: {model.file} can't be read: {type(error).__name__}: {error}") from error
