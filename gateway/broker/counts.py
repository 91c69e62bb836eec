"""Counts in Redis, read in spite of damage."""

import logging
from collections.abc import Mapping
from typing import Any

from shared.observability.log_limit import LogLimit

logger = logging.getLogger(__name__)


COUNT_MAX = 2**63
"""Bound of the counts of Redis."""


class Counts:
    """Reader of counts.

    A damaged count keeps the value that was read last, until the gateway that reconciles mends it.
    """

    def __init__(self) -> None:
        self._last: dict[str, int] = {}
        self._log_limit = LogLimit(10, 60.0)

    def count(self, name: str, answer: Any) -> int:
        """Return a count.

        Args:
            name: its key and its field.
            answer: Redis' answer: a number, text, None for no count, or the error that the command ended with.
        """
        try:
            value = int(answer or 0)
            if not -COUNT_MAX <= value <= COUNT_MAX:
                raise ValueError("too large")
            self._last[name] = value
        except (TypeError, ValueError):
            end = self._log_limit.admit()
            if end is not None:
                logger.error("%s is damaged: it is no count%s", name, end)
        return self._last.get(name, 0)

    def field(self, key: str, field: str, answer: Any) -> int:
        """Return a count of a hash; `answer` is that to HGETALL."""
        return self.count(f"{key} {field}", answer.get(field.encode()) if isinstance(answer, Mapping) else answer)
