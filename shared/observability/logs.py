"""Log set-up: one line per event on stderr, for people or as JSON, without payloads, keys and passwords of URLs."""

import logging
import logging.config
import re
import traceback
from datetime import datetime, timezone
from types import TracebackType
from typing import Any

import orjson

from shared.observability.log_context import log_context
from shared.observability.log_limit import LimitedLines

FIELD_ITEMS_MAX = 20
"""Number of ids that are shown of a list; a batch may have hundreds of jobs."""

TEXT_MAX_CHARACTERS, FIELD_MAX_CHARACTERS = 10_000, 200
"""Characters of a message or of a traceback, and of a field: files of others make some as long as they like."""

PRIVATE = {"private": True}
"""`extra` of a line whose exception may quote rows: its type and traceback are logged, its message is not."""

_MASKS = (
    # Passwords as in redis://user:password@host, and secrets in the query of a URL.
    (re.compile(r"(?<=://)([^\s/?#:@]*):[^\s/?#]*@"), r"\1:**@"),
    (re.compile(r"([?&][\w.-]*(?:password|secret|token|key|signature)=)[^\s&#'\"]+", re.IGNORECASE), r"\1**"),
)
_VALUE, _AFTER_VALUE = "input_value=", ", input_type="
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")


def masked(text: str) -> str:
    """Return a text without secrets, without characters that control or hide text except newlines, and encodable."""
    for pattern, replacement in _MASKS:
        text = pattern.sub(replacement, text)
    if _VALUE in text:
        text = "\n".join(map(_without_value, text.split("\n")))
    return _CONTROL.sub("", text).encode("utf-8", "backslashreplace").decode()


def cut(text: str, most: int = TEXT_MAX_CHARACTERS) -> str:
    """Return a text of at most so many characters, and a few that say how many are left out of its middle.

    Secrets have to be masked before: half of one is not found.
    """
    half = most // 2
    return text if len(text) <= most else f"{text[:half]} [{len(text) - 2 * half:,} characters] {text[-half:]}"


def _without_value(line: str) -> str:
    """Mask the value that pydantic quotes in an error, up to the last end of one: it may contain these characters."""
    start, end = line.find(_VALUE) + len(_VALUE), line.rfind(_AFTER_VALUE)
    return f"{line[:start]}**{line[end:]}" if len(_VALUE) <= start <= end else line


def exception_text(error: BaseException, trace: TracebackType | None, private: bool = False) -> str:
    """Format an exception and its causes with their tracebacks; if `private`, without their messages."""
    if not private:
        return cut(masked("".join(traceback.format_exception(type(error), error, trace)).rstrip()))
    parts, seen = [], set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        parts.append("".join(traceback.format_tb(trace)) + type(cause).__qualname__)
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
        trace = cause.__traceback__ if cause is not None else None
    return cut(masked("\n\nwhich led to:\n".join(reversed(parts))))


class _Formatter(logging.Formatter):
    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def _message(self, record: logging.LogRecord) -> str:
        return cut(masked(record.getMessage()))

    def _exception(self, record: logging.LogRecord) -> str:
        _, error, trace = record.exc_info or (None, None, None)
        return "" if error is None else exception_text(error, trace, getattr(record, "private", False))

    def _context(self) -> dict[str, Any]:
        return {name: _plain(value) for name, value in log_context().items()}


class ConsoleFormatter(_Formatter):
    """Formatter for people: the fields are at the end of the line, and further lines of the same event are indented."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line or lines of a record."""
        at = datetime.fromtimestamp(record.created).isoformat(" ", "milliseconds")
        head = f"{at} {record.levelname:7} {self._process}[{record.process}] {record.name}: {self._message(record)}"
        fields = " ".join(
            f"{name}={','.join(value) if isinstance(value, list) else value}" for name, value in self._context().items()
        )
        text = "\n".join(part for part in (f"{head} [{fields}]" if fields else head, self._exception(record)) if part)
        # Only the first line of an event starts at the margin, so that a text from outside can't forge a log line.
        return text.replace("\n", "\n    ")


class JsonFormatter(_Formatter):
    """Formatter for machines: one object per line, with the time in UTC and the fields of the log context."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
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
    text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
    return cut(masked(text).replace("\n", ""), FIELD_MAX_CHARACTERS)


FORMATTERS = {"console": ConsoleFormatter, "json": JsonFormatter}
"""Formatters by the value of LOG_FORMAT."""


def logging_configuration(process: str, level: str, log_format: str = "console") -> dict[str, Any]:
    """Return a `logging.config.dictConfig` for a process: one line per event on stderr."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": FORMATTERS[log_format], "process": process}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
        "root": {"level": level, "handlers": ["stderr"]},
        "filters": {"limited": {"()": LimitedLines}},
        "loggers": {
            # An estimator may warn of every batch, because of its callers' values.
            "py.warnings": {"filters": ["limited"]},
            # On INFO these log a line for every batch.
            "celery.app.trace": {"level": "WARNING"},
            "celery.worker.strategy": {"level": "WARNING"},
            # On DEBUG it logs the arguments of every task, which are rows.
            "celery.pool": {"level": _at_least(level, "INFO")},
            # These quote what callers send as their trace.
            "opentelemetry.trace": {"level": "CRITICAL"},
            # shared/observability/tracing.py reports a collector that is down, once per outage.
            "opentelemetry.exporter": {"level": "CRITICAL"},
            "opentelemetry.sdk._shared_internal": {"level": "CRITICAL"},
        },
    }


def _at_least(level: str, least: str) -> str:
    return max(level, least, key=logging.getLevelName)


def set_up_logging(process: str, level: str, log_format: str = "console") -> None:
    """Configure the root logger of this process, which also gets the warnings of Python."""
    logging.config.dictConfig(logging_configuration(process, level, log_format))
    logging.captureWarnings(True)
