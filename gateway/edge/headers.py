"""Headers of a request or a response, as ASGI has them."""

from collections.abc import Iterable

HeaderPairs = Iterable[tuple[bytes, bytes]]
"""Headers, names in lower case. Those of a response are written as they are, so a caller's input is checked first."""
