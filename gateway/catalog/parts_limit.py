"""Limit of the parts of a body, which are counted before the body is parsed."""

from collections.abc import Sequence

from gateway.errors import InvalidJson, InvalidRows
from headrace.models.manifest import Feature

PARTS_MIN = 20_000
"""Commas, and brackets, that a body of any model may have; so many empty lists are parsed in 7 ms."""

_TOO_DEEP = b"[" * 1025
"""Lists in each other that no parser of JSON reads."""


class PartsLimit:
    """Limit of the commas and brackets of a body for one model, twice those of its largest request.

    4 MB have room for 1,300,000 empty lists, which block the event loop for half a second.
    """

    def __init__(self, features: Sequence[Feature], rows_max: int, brackets: int = 1) -> None:
        """`rows_max` is the most rows of a request, `brackets` are those of a row."""
        self._most = f"{rows_max} rows of {len(features)} values"
        self._takes_texts = any(feature.type == "string" for feature in features)
        commas_in_names = sum(feature.name.count(",") for feature in features)
        brackets_in_names = sum(feature.name.count(bracket) for feature in features for bracket in "[{")
        self._commas_max = max(PARTS_MIN, 2 * rows_max * (len(features) + commas_in_names))
        self._brackets_max = max(PARTS_MIN, 2 * rows_max * (brackets + brackets_in_names))

    def check(self, body: bytes) -> None:
        """Refuse a body of far more parts than the largest request has.

        Raises:
            InvalidJson: if it is nested too deep for any parser.
            InvalidRows: if it has too many parts.
        """
        if not self._is_exceeded(body):
            return
        if self._takes_texts:
            body = _outside_texts(body)
            if not self._is_exceeded(body):
                return
        if _TOO_DEEP in body:
            raise InvalidJson("Invalid JSON: it is nested too deep")
        raise InvalidRows([((), f"a request has at most {self._most}, and this has far more")], all_found=False)

    def check_csv(self, body: bytes) -> None:
        """Refuse a table of far more values or lines than the largest request has.

        Raises:
            InvalidRows: if it has too many.
        """
        outside = b"".join(body.split(b'"')[::2]) if self._takes_texts else body
        lines = outside.count(b"\n") + outside.count(b"\r")
        if outside.count(b",") > self._commas_max or lines > self._brackets_max:
            raise InvalidRows([((), f"a request has at most {self._most}, and this has far more")], all_found=False)

    def _is_exceeded(self, json: bytes) -> bool:
        return json.count(b",") > self._commas_max or json.count(b"[") + json.count(b"{") > self._brackets_max


def _outside_texts(json: bytes) -> bytes:
    """Return JSON without its texts, in time that is linear whatever it holds."""
    return b"".join(json.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')[::2])
