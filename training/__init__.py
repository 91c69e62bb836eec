"""Writes fitted estimators into the model store, and fits some of its own.

`export` is the entry for users; `python -m training` for the command line. It must not know who serves the model,
neither the queue nor HTTP.
"""

from typing import TYPE_CHECKING, Any

from training.errors import NotExportable

if TYPE_CHECKING:
    from training.exporter import export

__all__ = ["NotExportable", "export"]


def __getattr__(name: str) -> Any:
    # Not at import: `python -m training --if-missing` mostly finds nothing to do, and scikit-learn takes a second.
    if name == "export":
        from training.exporter import export

        return export
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
