"""The SDK of Headrace: export fitted scikit-learn estimators, and call the service that predicts with them.

Importing this package imports neither scikit-learn nor an HTTP library: `export` and `Client` are imported when they
are first used. `export` needs the extra `export`.
"""

from typing import TYPE_CHECKING, Any

from headrace.errors import HeadraceError, NotExportable
from headrace.extras import extras_explained
from headrace.version import __version__

if TYPE_CHECKING:
    from headrace.client.async_client import AsyncClient
    from headrace.client.client import Client
    from headrace.client.errors import ProblemError
    from headrace.exporting.exporter import export

__all__ = ["AsyncClient", "Client", "HeadraceError", "NotExportable", "ProblemError", "__version__", "export"]

_MODULES = {
    "AsyncClient": "headrace.client.async_client",
    "Client": "headrace.client.client",
    "ProblemError": "headrace.client.errors",
    "export": "headrace.exporting.exporter",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    with extras_explained():
        return getattr(import_module(_MODULES[name]), name)
