"""What training refuses."""

from shared.errors import MillraceError


class NotExportable(MillraceError, ValueError):
    """An estimator or its rows can't be served as they are; the message says why and what to do."""


class DatasetInvalid(MillraceError, ValueError):
    """A file can't be trained from."""
