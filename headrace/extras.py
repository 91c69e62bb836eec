"""One clear error where a library of an extra is not installed."""

from collections.abc import Iterator
from contextlib import contextmanager

from headrace.errors import HeadraceError

EXTRA_OF = {
    "cryptography": "sign",
    "joblib": "export",
    "numpy": "export",
    "pandas": "export",
    "s3fs": "s3",
    "scipy": "export",
    "sklearn": "export",
    "skops": "export",
    "threadpoolctl": "export",
    "yaml": "mlflow",
}
"""The extra that brings a top-level module."""


class ExtraMissing(HeadraceError, ImportError):
    """A library of an extra is not installed; the message names the extra."""


@contextmanager
def extras_explained() -> Iterator[None]:
    """Turn the failed import of a library that belongs to an extra into `ExtraMissing`.

    Raises:
        ExtraMissing: if such a library is not installed. Other failed imports are raised unchanged.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library not in EXTRA_OF:
            raise
        extra = EXTRA_OF[library]
        raise ExtraMissing(
            f"{library} is not installed; it is in the extra '{extra}': pip install '.[{extra}]' in a clone of Headrace"
        ) from error
