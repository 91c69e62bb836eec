"""Log set-up as a pure function; never payloads, keys or broker URLs."""

import logging.config
from typing import Any


def logging_configuration(process: str, level: str) -> dict[str, Any]:
    """A `logging.config.dictConfig` for one process: a line per event on stderr."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "line": {"format": f"%(asctime)s %(levelname)-7s {process}[%(process)d] %(name)s: %(message)s"},
        },
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
        "root": {"level": level, "handlers": ["stderr"]},
        # One line for every batch, and a warning for each of Celery's start-up choices that we made on purpose.
        "loggers": {"celery.app.trace": {"level": "WARNING"}, "celery.worker.strategy": {"level": "WARNING"}},
    }


def set_up_logging(process: str, level: str) -> None:
    """Configure the root logger of this process."""
    logging.config.dictConfig(logging_configuration(process, level))
