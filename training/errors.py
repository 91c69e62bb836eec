"""Errors of offline training."""

from headrace.errors import HeadraceError


class DatasetInvalid(HeadraceError, ValueError):
    """A data set can't be read, or a model can't be trained from it."""
