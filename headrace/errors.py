"""Errors of the model contract.

HeadraceError                   base of every error that this project raises on purpose
├── ModelError                  the model store or an artifact is not usable
│   ├── ModelNotFound
│   ├── NameInvalid             a new model, version or alias can't have this name (also a ValueError)
│   ├── VersionExists           versions never change, so this one can't be added (also a FileExistsError)
│   ├── ManifestInvalid
│   ├── ArtifactInvalid         digest, library version or samples do not match the manifest
│   ├── FileUnusable            a file of the store can't be read as one: a link in a circle, a pipe, too large
│   └── StoreUnavailable        the store can't be reached, read or written
├── MlflowUnusable              an MLflow server, or a model as MLflow stored it, can't be used
└── NotExportable               an estimator or its rows can't be served
"""

import copyreg
from typing import Any


class HeadraceError(Exception):
    """Base of the errors that this project raises on purpose."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Return what `pickle` writes, so that an error comes back from another process as it was."""
        # By default it calls the class with the text alone, and some classes make their text of other arguments.
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]


class ModelError(HeadraceError):
    """A model can't be used as it is stored."""


class ModelNotFound(ModelError):
    """The model store has no such name, version or alias."""


class NameInvalid(ModelError, ValueError):
    """A text that can't name a new model, version or alias."""


class VersionExists(ModelError, FileExistsError):
    """The model store has this version already, or a part of it; versions never change."""


class ManifestInvalid(ModelError):
    """A manifest is missing, malformed, or of an unknown format version."""


class ArtifactInvalid(ModelError):
    """An artifact is not the one that its manifest describes, or does not behave like it."""


class FileUnusable(ModelError):
    """A file of the model store is no regular file, not readable or too large; the other files are not affected."""


class StoreUnavailable(ModelError):
    """The model store can't be reached, read or written; it may be later."""


class MlflowUnusable(HeadraceError):
    """An MLflow server does not answer as it should, or a model can't be read as MLflow stored it."""


class NotExportable(HeadraceError, ValueError):
    """An estimator or its rows can't be served as they are; the message says why and what to do."""
