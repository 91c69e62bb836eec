"""Names of models and versions: the only parts of paths that callers choose."""

import re

from headrace.errors import ModelNotFound, NameInvalid
from headrace.models.manifest import IDENTIFIER_PATTERN

ALLOWED = "1 to 64 ASCII letters, digits, '.', '_' or '-', the first a letter or a digit"


def is_identifier(text: str) -> bool:
    """Tell whether a text can name a model, a version or an alias."""
    return isinstance(text, str) and re.fullmatch(IDENTIFIER_PATTERN, text) is not None


def identifier(text: str) -> str:
    """Return the name unchanged after checking it: a `..` would lead out of the store.

    Raises:
        ModelNotFound: if it can't be a name.
    """
    if not is_identifier(text):
        raise ModelNotFound(f"{text!r} is no model name or version: {ALLOWED}")
    return text


def check_new_name(text: str, kind: str) -> None:
    """Check a name for something new; `kind` says what it would be.

    Raises:
        NameInvalid: if it can't be a name.
    """
    if not is_identifier(text):
        raise NameInvalid(f"{text!r} can't be {kind}: {ALLOWED}")


def version_folder(name: str, version: str) -> str:
    """Return the folder of a version, relative to the root of the store; errors as in `identifier`."""
    return f"{identifier(name)}/{identifier(version)}"
