"""Log set-up: a line per event on stderr, for people or as JSON; never payloads, keys or broker URLs' passwords."""

import logging
import logging.config
import re
import traceback
from datetime import datetime, timezone
from types import TracebackType
from typing import Any

import orjson

from shared.observability.log_context import log_context

FIELD_ITEMS_MAX = 20
"""Ids shown of a list; a batch may be of hundreds of jobs."""

PRIVATE = {"private": True}
"""`extra` of a line whose exception may quote rows: its type and where it was raised are told, its message is not."""

_MASKS = (
    # redis://user:password@host, and what URLs carry behind the question mark.
    (re.compile(r"(?<=://)([^\s/?#:@]*):[^\s/?#]*@"), r"\1:**@"),
    (re.compile(r"([?&][\w.-]*(?:password|secret|token|key|signature)=)[^\s&#'\"]+", re.IGNORECASE), r"\1**"),
    # pydantic's errors quote what is wrong, up to the last such words of the line.
    (re.compile(r"input_value=.*(?=, input_type=)"), "input_value=**"),
)
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]")


def masked(text: str) -> str:
    """A text without secrets, without control characters other than newlines, and writable as UTF-8."""
    for pattern, replacement in _MASKS:
        text = pattern.sub(replacement, text)
    return _CONTROL.sub("", text).encode("utf-8", "backslashreplace").decode()


def exception_text(error: BaseException, trace: TracebackType | None, private: bool = False) -> str:
    """The traceback with those of its causes; `private`: with the types of the exceptions, not their messages."""
    if not private:
        return masked("".join(traceback.format_exception(type(error), error, trace)).rstrip())
    parts, seen = [], set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        parts.append("".join(traceback.format_tb(trace)) + type(cause).__qualname__)
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
        trace = cause.__traceback__ if cause is not None else None
    return masked("\n\nwhich led to:\n".join(reversed(parts)))


class _Formatter(logging.Formatter):
    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def _message(self, record: logging.LogRecord) -> str:
        return masked(record.getMessage())

    def _exception(self, record: logging.LogRecord) -> str:
        _, error, trace = record.exc_info or (None, None, None)
        return "" if error is None else exception_text(error, trace, getattr(record, "private", False))

    def _context(self) -> dict[str, Any]:
        return {name: _plain(value) for name, value in log_context().items()}


class ConsoleFormatter(_Formatter):
    """A line for people, with what it is about at its end; what follows it of a longer text is indented."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, or lines."""
        at = datetime.fromtimestamp(record.created).isoformat(" ", "milliseconds")
        head = f"{at} {record.levelname:7} {self._process}[{record.process}] {record.name}: {self._message(record)}"
        about = " ".join(
            f"{name}={','.join(value) if isinstance(value, list) else value}" for name, value in self._context().items()
        )
        text = "\n".join(part for part in (f"{head} [{about}]" if about else head, self._exception(record)) if part)
        # Nobody can make up a line of the log: one that is not the first of its event does not start at the margin.
        return text.replace("\n", "\n    ")


class JsonFormatter(_Formatter):
    """An object per line: time (UTC), level, logger, process, pid, message, what it is about, exception."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        at = datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds")
        line = {
            "time": at.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": self._process,
            "pid": record.process,
            "message": self._message(record),
            **self._context(),
        }
        exception = self._exception(record)
        if exception:
            line["exception"] = exception
        return orjson.dumps(line).decode()


def _plain(value: Any) -> str | list[str]:
    if isinstance(value, list | tuple):
        shown = [_id(each) for each in value[:FIELD_ITEMS_MAX]]
        return shown if len(shown) == len(value) else [*shown, f"and {len(value) - len(shown)} more"]
    return _id(value)


def _id(value: Any) -> str:
    return masked(value.decode("latin-1") if isinstance(value, bytes) else str(value)).replace("\n", "")


FORMATTERS = {"console": ConsoleFormatter, "json": JsonFormatter}
"""LOG_FORMAT -> how a line looks."""


def logging_configuration(process: str, level: str, log_format: str = "console") -> dict[str, Any]:
    """A `logging.config.dictConfig` for one process: a line per event on stderr."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": FORMATTERS[log_format], "process": process}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
        "root": {"level": level, "handlers": ["stderr"]},
        "loggers": {
            # One line for every batch, and a warning for each of Celery's start-up choices that we made on purpose.
            "celery.app.trace": {"level": "WARNING"},
            "celery.worker.strategy": {"level": "WARNING"},
            # On DEBUG it shows the arguments of every task, which are rows.
            "celery.pool": {"level": _at_least(level, "INFO")},
            # What these say of a collector that is down, shared/observability/tracing.py says once.
            "opentelemetry.exporter": {"level": "CRITICAL"},
            "opentelemetry.sdk._shared_internal": {"level": "CRITICAL"},
        },
    }


def _at_least(level: str, least: str) -> str:
    return max(level, least, key=logging.getLevelName)


def set_up_logging(process: str, level: str, log_format: str = "console") -> None:
    """Configure the root logger of this process; warnings of Python go there too."""
    logging.config.dictConfig(logging_configuration(process, level, log_format))
    logging.captureWarnings(True)
