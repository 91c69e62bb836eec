"""The error that crosses the queue, as `{code, message, rows}`."""

from typing import Any

from headrace.errors import HeadraceError


class PredictionError(HeadraceError):
    """The reason why a call got no prediction.

    `code` comes from `shared.queue.contract.ErrorCode`; `message` is safe to show to a caller; `rows` are positions,
    from 0, of the failing rows inside the call (empty: all of them).
    """

    def __init__(self, code: str, message: str, rows: list[int] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.rows = rows or []

    def as_dict(self) -> dict[str, Any]:
        """Return the form in which the error crosses the queue."""
        return {"code": self.code, "message": self.message, "rows": self.rows}
