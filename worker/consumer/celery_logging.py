"""Celery's own log lines in the form of all others, and without values of rows."""

import logging
import warnings
from typing import Any

from billiard import util
from celery import signals
from celery.apps import worker as celery_worker
from celery.exceptions import CPendingDeprecationWarning

logger = logging.getLogger(__name__)


class _WithoutMessage(logging.Filter):
    """Reduces a failed task's line to the type of the exception and its place: the message may quote rows."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record, and return True: the line stays."""
        if record.exc_info and isinstance(record.args, dict) and "exc" in record.args:
            error = record.exc_info[1]
            record.args = {**record.args, "exc": type(error).__name__, "traceback": ""}
            record.private = True
        return True


def keep_logging_as_it_is() -> None:
    """Keep Celery from adding log handlers of its own, whose lines would have another form."""
    logging.getLogger("celery.app.trace").addFilter(_WithoutMessage())
    # Each time the broker is lost, Celery announces in eight lines that a later version will cancel what runs. Here it
    # may run on: acknowledging a message that was given to another worker meanwhile changes nothing.
    warnings.filterwarnings("ignore", category=CPendingDeprecationWarning)
    # Celery sets no logging up if this signal has a receiver.
    signals.setup_logging.connect(_propagate_pool_lines, weak=False)
    # Celery writes "worker: Warm shutdown" between two newlines to its standard output, past the log.
    celery_worker.safe_say = _say


def _say(message: str, *_: Any) -> None:
    logger.info("%s", message.strip())


def _propagate_pool_lines(**_: Any) -> None:
    """Send the pool's lines about dead children where all lines go: billiard makes its logger without propagation."""
    pool_logger = util.get_logger()
    pool_logger.propagate = True
    pool_logger.setLevel(logging.WARNING)
