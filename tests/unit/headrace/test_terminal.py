"""The texts that reach a terminal: as they are, but without characters that a terminal would obey or hide."""

import argparse
import io
import logging
import sys

import pytest

from headrace.terminal import escaped, escaped_output, one_line
from tests.support.hostile_texts import HOSTILE_TEXTS, harmless


@pytest.mark.parametrize("text", ["", "iris", "Straße …", "日本語", "a\tb\nc", "C:\\x1b", "😀"])
def test_what_can_be_printed_stays_as_it_is(text: str) -> None:
    assert escaped(text) == text


@pytest.mark.parametrize("text", HOSTILE_TEXTS)
def test_nothing_else_does(text: str) -> None:
    assert harmless(escaped(text))
    assert harmless(one_line(text)) and "\n" not in one_line(text)
    assert escaped(text).startswith("before") and escaped(text).endswith("after"), "the rest is still there"
    escaped(text).encode()


def test_a_line_break_does_not_forge_a_line() -> None:
    assert one_line("a\nmodel v2 is intact") == "a\\nmodel v2 is intact"


def test_whatever_writes_to_the_standard_streams_is_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    with escaped_output():
        print("out \x1b[2J", flush=True)
        sys.stdout.writelines(["more \x07\n"])
        print("err \x9b2J", file=sys.stderr)
        logging.StreamHandler().emit(logging.makeLogRecord({"msg": "log \x1b]0;title\x07"}))
        with pytest.raises(SystemExit):
            argparse.ArgumentParser(prog="x").parse_args(["\x1b[31m"])
    print("as before \x1b")

    out, err = capsys.readouterr()
    assert out == "out \\x1b[2J\nmore \\x07\nas before \x1b\n"
    assert harmless(err)
    for text in ("err \\x9b2J\n", "log \\x1b]0;title\\x07\n", "\\x1b[31m"):
        assert text in err


def test_what_a_terminal_can_not_encode_is_escaped_too(monkeypatch: pytest.MonkeyPatch) -> None:
    content = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(content, encoding="latin-1"))
    with escaped_output():
        print("Köln …", flush=True)

    assert content.getvalue() == b"K\xf6ln \\u2026\n"
