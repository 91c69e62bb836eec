"""Celery's own lines take the form of all others, and say nothing of rows."""

import logging
import warnings
from typing import Any

from billiard import util
from celery import signals
from celery.apps import worker as celery_worker
from celery.exceptions import CPendingDeprecationWarning

logger = logging.getLogger(__name__)


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
    # A default of a later Celery, told with eight lines each time the broker is lost. It does not matter here: what
    # runs on may end, and the acknowledgement of a message that was given to another worker changes nothing.
    warnings.filterwarnings("ignore", category=CPendingDeprecationWarning)
    # With a receiver it leaves logging alone.
    signals.setup_logging.connect(_let_the_pool_join_in, weak=False)
    # It writes "worker: Warm shutdown" past the log, between two newlines.
    celery_worker.safe_say = _say


def _say(message: str, *_: Any) -> None:
    logger.info("%s", message.strip())


def _let_the_pool_join_in(**_: Any) -> None:
    """What the pool says of children that died goes where everything goes; its logger keeps to itself when made."""
    of_the_pool = util.get_logger()
    of_the_pool.propagate = True
    of_the_pool.setLevel(logging.WARNING)
