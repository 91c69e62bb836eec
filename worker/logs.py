"""Celery's own lines take the form of all others, and say nothing of rows."""

import logging
from typing import Any

from celery import signals


class _Discreet(logging.Filter):
    """Lets a failed task's line say the type of the exception and where it was raised: its message may quote rows."""

    def filter(self, record: logging.LogRecord) -> bool:
        """True: the line stays."""
        if record.exc_info and isinstance(record.args, dict) and "exc" in record.args:
            error = record.exc_info[1]
            record.args = {**record.args, "exc": type(error).__name__, "traceback": ""}
            record.private = True
        return True


def keep_logging_as_it_is() -> None:
    """Keep Celery from adding handlers of its own, whose lines would be of another form."""
    logging.getLogger("celery.app.trace").addFilter(_Discreet())
    # With a receiver it leaves logging alone.
    signals.setup_logging.connect(_nothing_to_do, weak=False)


def _nothing_to_do(**_: Any) -> None:
    """Logging is set up."""
