"""The error tree, without any transport.

MillraceError
├── ModelError              the model store or an artifact is not usable
│   ├── ModelNotFound
│   ├── ManifestInvalid
│   ├── ArtifactInvalid     digest, library version or samples do not match the manifest
│   └── StoreUnavailable    the store can't be reached, read or written
└── PredictionError         a row could not be predicted; crosses the queue as {code, message, rows}
"""

from typing import Any


class MillraceError(Exception):
    """Base of all errors raised on purpose."""


class ModelError(MillraceError):
    """A model can't be used as it is stored."""


class ModelNotFound(ModelError):
    """The model store has no such name, version or alias."""


class ManifestInvalid(ModelError):
    """A manifest is missing, malformed, or of an unknown format version."""


class ArtifactInvalid(ModelError):
    """An artifact is not the one that its manifest describes. Nothing of it has been executed."""


class StoreUnavailable(ModelError):
    """The model store can't be reached, read or written; it may be later."""


class PredictionError(MillraceError):
    """Why a call got no prediction.

    `code` comes from `shared.contract.ErrorCode`; `message` is safe to show to a caller; `rows` are the positions,
    from 0, of the failing rows inside the call (empty: all of them).
    """

    def __init__(self, code: str, message: str, rows: list[int] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.rows = rows or []

    def as_dict(self) -> dict[str, Any]:
        """The form in which it crosses the queue."""
        return {"code": self.code, "message": self.message, "rows": self.rows}
