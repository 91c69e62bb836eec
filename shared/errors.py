"""The error that crosses the queue, as `{code, message, rows, count}`."""

from typing import Any

from headrace.errors import HeadraceError

ROWS_NAMED_MAX = 1_000
"""Failing rows whose positions an error holds at most."""


class PredictionError(HeadraceError):
    """The reason why a call got no prediction.

    `code` comes from `shared.queue.contract.ErrorCode`; `message` is safe to show to a caller; `rows` are positions,
    from 0, of the first failing rows inside the call (empty: all of them); `count` is the number of those that failed.
    """

    def __init__(self, code: str, message: str, rows: list[int] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.rows = (rows or [])[:ROWS_NAMED_MAX]
        self.count = len(rows or [])

    def as_dict(self) -> dict[str, Any]:
        """Return the form in which the error crosses the queue."""
        return {"code": self.code, "message": self.message, "rows": self.rows, "count": self.count}
