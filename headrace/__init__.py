"""The SDK of Headrace: export fitted scikit-learn estimators, and call the service that answers for them."""

from typing import TYPE_CHECKING, Any

from headrace.errors import HeadraceError, NotExportable

if TYPE_CHECKING:
    from headrace.exporting.exporter import export

__all__ = ["HeadraceError", "NotExportable", "export"]


def __getattr__(name: str) -> Any:
    # Not at import: scikit-learn takes a second, and a client needs none of it.
    if name == "export":
        from headrace.exporting.exporter import export

        return export
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
