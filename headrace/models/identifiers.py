"""Names of models and versions: the only parts of paths that come from outside."""

import re

from headrace.errors import ModelNotFound
from headrace.models.manifest import IDENTIFIER_PATTERN


def is_identifier(text: str) -> bool:
    """Whether it can name a model, a version or an alias."""
    return re.fullmatch(IDENTIFIER_PATTERN, text) is not None


def identifier(text: str) -> str:
    """The name itself.

    Raises:
        ModelNotFound: if it can't be one; a `..` would lead out of the store.
    """
    if not is_identifier(text):
        raise ModelNotFound(f"{text!r} is no model name or version: 1 to 64 letters, digits, '.', '_' or '-'")
    return text


def version_folder(name: str, version: str) -> str:
    """Where a version is, below the root of the store. Errors as in `identifier`."""
    return f"{identifier(name)}/{identifier(version)}"
