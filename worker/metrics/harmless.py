"""A guard around metrics and spans: an exception in them costs no batch its answer, and no version its place."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from shared.observability.log_limit import LogLimit
from shared.observability.logs import PRIVATE
from worker.model.loader import contained, is_time_limit, name_of

logger = logging.getLogger(__name__)

_limit = LogLimit(10, 10.0)


@contextmanager
def harmless() -> Iterator[None]:
    """Log an exception that counting or tracing raises, at a limited rate, and end this block only.

    The soft time limit of a task passes, as does the exception with which a pool child ends at a signal.
    """
    try:
        with contained():
            yield
    except Exception as error:
        if is_time_limit(error):
            raise
        before = _limit.admit()
        if before is not None:
            # The message of the error may quote values of a row.
            trace: Any = (type(error), error, error.__traceback__)
            logger.error("not counted or traced: %s%s", name_of(error), before, exc_info=trace, extra=PRIVATE)
