"""Errors of offline training."""

from headrace.errors import HeadraceError


class DatasetInvalid(HeadraceError, ValueError):
    """A file can't be trained from."""
