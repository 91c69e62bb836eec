"""Texts from a model store, Redis or a model on a terminal, which must not obey the control characters in them."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

PIPE_CLOSED = 141
"""Exit code of a command whose output nobody reads to its end: 128 and the number of SIGPIPE."""


def escaped(text: str) -> str:
    """Return a text with all characters escaped that can't be printed, except newlines and tabs.

    Among them are those that hide text, reverse its direction, or can't be encoded.
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() or each in "\n\t" else _escape(each) for each in text)


def one_line(text: str) -> str:
    """Return a text without line breaks, which could forge lines of output, and escaped."""
    return escaped(text).replace("\n", "\\n")


def reason(error: Exception) -> str:
    """Return the text of an error; of an error of the operating system, the file and what is wrong with it."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


@contextmanager
def escaped_output() -> Iterator[None]:
    """Escape all that this process writes to its standard output and error, also from inside libraries.

    A stream that is closed, for which Python has none, takes everything and keeps nothing.
    """
    with (
        Path(os.devnull).open("w") as nowhere,
        redirect_stdout(_Escaped(sys.stdout or nowhere)),
        redirect_stderr(_Escaped(sys.stderr or nowhere)),
    ):
        yield


def discard_output() -> None:
    """Let the output that is still to be written go nowhere: Python would complain at its end."""
    if sys.__stdout__ is not None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.__stdout__.fileno())
        os.close(nowhere)


class _Escaped:
    """A stream that escapes what is written to it; everything else is the stream's below."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        if isinstance(stream, io.TextIOWrapper):
            # A terminal may have another encoding than UTF-8.
            stream.reconfigure(errors="backslashreplace")

    def write(self, text: str) -> int:
        self._stream.write(escaped(text))
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()
