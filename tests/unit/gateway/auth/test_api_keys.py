import asyncio
import errno
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.auth import api_keys
from gateway.auth.api_keys import KeyFileError, KeyRing, KeyScope, digest_of, make_key, read_grants
from gateway.auth.new_key import main
from tests.support.coroutines import run, until

HASH = f"sha256:{digest_of(b'sesame').hex()}"
OTHER = f"sha256:{digest_of(b'open').hex()}"


def test_a_line_says_whose_key_it_is_and_what_for() -> None:
    text = f"# keys\n\n  pricing\t{HASH}  predict,jobs rate=0.5 burst=10  # of the web shop\nops {OTHER} metrics\n"
    grants = read_grants(text)

    pricing, ops = grants[digest_of(b"sesame")], grants[digest_of(b"open")]
    assert (pricing.owner, pricing.scopes) == ("pricing", frozenset({KeyScope.PREDICT, KeyScope.JOBS}))
    assert (pricing.rate, pricing.burst) == (0.5, 10)
    assert (ops.owner, ops.scopes, ops.rate) == ("ops", frozenset({KeyScope.METRICS}), 0)


@pytest.mark.parametrize(("rate", "burst"), [("0.1", 1), ("1", 1), ("2.5", 3), ("100", 100)])
def test_without_a_burst_it_is_what_a_second_allows(rate: str, burst: float) -> None:
    [grant] = read_grants(f"a {HASH} read rate={rate}").values()

    assert grant.burst == burst


def test_an_owner_may_have_several_keys() -> None:
    assert {grant.owner for grant in read_grants(f"a {HASH} read\na {OTHER} read").values()} == {"a"}


@pytest.mark.parametrize(
    "line",
    [
        "a",
        f"a {HASH}",
        f"a/b {HASH} read",
        "a sesame read",
        "a sha256:12ab read",
        f"a {HASH.upper()} read",
        f"a {HASH} write",
        f"a {HASH} read,",
        f"a {HASH} predict jobs",
        f"a {HASH} read rate=0",
        f"a {HASH} read rate=-1",
        f"a {HASH} read rate=inf",
        f"a {HASH} read rate=1e9",
        f"a {HASH} read burst=5",
        f"a {HASH} read rate=1 burst=0.5",
        f"a {HASH} read rate=1 per=minute",
    ],
)
def test_a_malformed_line_is_named_and_not_quoted(line: str) -> None:
    with pytest.raises(KeyFileError) as caught:
        read_grants(f"# first\nops {OTHER} read\n{line}\n")

    assert str(caught.value).startswith("line 3: ")
    assert "sesame" not in str(caught.value), "someone may have written the key itself"


def test_one_key_for_two_is_refused() -> None:
    with pytest.raises(KeyFileError, match="line 2: an earlier line has the same key"):
        read_grants(f"a {HASH} read\nb {HASH} jobs")


@pytest.mark.parametrize("text", ["", "\n", "# nobody\n"])
def test_a_file_without_a_key_is_refused(text: str) -> None:
    with pytest.raises(KeyFileError, match="no key"):
        read_grants(text)


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe"])
def test_a_ring_without_a_usable_file_is_none(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "keys"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(KeyFileError, match=f"API_KEYS_FILE: {path}: "):
        KeyRing(path)


def test_a_key_is_found_by_itself_only(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"a {HASH} read rate=1\n")
    ring = KeyRing(path)

    found = ring.find(b"sesame")
    assert found is not None and found.grant.owner == "a" and found.bucket is not None
    for other in (b"", b"Sesame", b"sesame ", digest_of(b"sesame"), HASH.encode()):
        assert ring.find(other) is None


def test_the_file_is_read_again_when_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(api_keys, "REREAD_SECONDS", 0.001)
    path = tmp_path / "keys"
    path.write_text(f"a {HASH} read rate=1\n")
    ring = KeyRing(path)

    async def scenario() -> None:
        async def reading() -> None:
            while True:
                await ring.step()

        loop = asyncio.create_task(reading())
        first = ring.find(b"sesame")
        replaced = tmp_path / "new"
        replaced.write_text(f"a {HASH} read rate=1\nb {OTHER} read\n")
        replaced.rename(path)
        await until("b is in", lambda: ring.find(b"open") is not None)
        assert ring.find(b"sesame") is first, "what it has used of its limit stays used"

        path.write_text("nonsense\n")
        await until("it is reported", lambda: caplog.records)
        assert ring.find(b"sesame") is first, "a half-written file locks nobody out"
        path.unlink()
        await until("it is reported", lambda: len(caplog.records) == 2)
        assert ring.find(b"open") is not None

        path.write_text(f"b {OTHER} read\n")
        await until("a is out", lambda: ring.find(b"sesame") is None)
        loop.cancel()
        await asyncio.wait([loop])

    with caplog.at_level(logging.ERROR):
        run(scenario())

    assert len(caplog.records) == 2, "once each"
    assert "line 1" in caplog.messages[0] and "nonsense" not in caplog.text
    assert os.strerror(2) in caplog.messages[1]


def test_a_file_that_could_not_be_read_is_read_as_soon_as_it_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(api_keys, "REREAD_SECONDS", 0.001)
    path = tmp_path / "keys"
    path.write_text(f"revoked {HASH} read\n")
    ring = KeyRing(path)
    path.write_text(f"a {OTHER} read\n")
    failures = iter([errno.EMFILE, errno.EMFILE, errno.EACCES])

    def open_(*args: Any) -> int:
        number = next(failures, None)
        if number is not None:
            raise OSError(number, os.strerror(number))
        return os.open(*args)

    monkeypatch.setattr(api_keys, "os", SimpleNamespace(**{**vars(os), "open": open_}))

    async def scenario() -> None:
        for _ in range(3):
            await ring.step()
            assert ring.find(b"sesame") is not None
        await ring.step()
        assert ring.find(b"sesame") is None and ring.find(b"open") is not None

    with caplog.at_level(logging.ERROR):
        run(scenario())

    assert len(caplog.messages) == 2, "each reason once"
    assert os.strerror(errno.EMFILE) in caplog.messages[0] and os.strerror(errno.EACCES) in caplog.messages[1]


def test_new_permissions_are_a_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(api_keys, "REREAD_SECONDS", 0.001)
    path = tmp_path / "keys"
    path.write_text(f"a {HASH} read\n")
    ring = KeyRing(path)

    async def scenario() -> None:
        await ring.step()
        assert not caplog.records
        # The clock of a file system has steps of some milliseconds.
        deadline = time.monotonic() + 60
        while not caplog.records and time.monotonic() < deadline:
            path.chmod(0o640)
            await ring.step()

    with caplog.at_level(logging.INFO):
        run(scenario())

    assert caplog.messages == ["1 API keys were read"]


def test_a_file_whose_last_line_does_not_end_counts_once_it_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_keys, "REREAD_SECONDS", 0.001)
    path = tmp_path / "keys"
    path.write_text(f"a {HASH} read rate=1 burst=3\n")
    ring = KeyRing(path)

    def limited() -> bool:
        found = ring.find(b"sesame")
        assert found is not None
        return found.bucket is not None

    async def scenario() -> None:
        path.write_text(f"a {HASH} read")
        await ring.step()
        assert limited(), "the rest of the line may follow"
        path.write_text(f"a {HASH} read rate=2")
        await ring.step()
        assert limited()
        path.write_text(f"a {HASH} read")
        await ring.step()
        await ring.step()
        assert not limited()

    run(scenario())


def fifo(path: Path) -> None:
    os.mkfifo(path)


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def silent(path: Path) -> None:
    path.symlink_to("/dev/ptmx")


def folder(path: Path) -> None:
    path.mkdir()


def circle(path: Path) -> None:
    path.symlink_to(path)


def huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(100 * api_keys.FILE_MAX_BYTES)


def private(path: Path) -> None:
    """A regular file that can't be read although it can be opened."""
    path.symlink_to("/proc/self/mem")


@pytest.mark.parametrize("replace", [fifo, endless, silent, folder, circle, huge, private])
def test_what_is_no_file_of_keys_neither_starts_nor_stops_anything(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    replace: Callable[[Path], None],
) -> None:
    monkeypatch.setattr(api_keys, "REREAD_SECONDS", 0.001)
    path = tmp_path / "keys"
    path.write_text(f"a {HASH} read\n")
    ring = KeyRing(path)

    async def scenario() -> None:
        path.unlink()
        replace(path)
        with pytest.raises(KeyFileError, match=f"API_KEYS_FILE: {path}: "):
            KeyRing(path)
        await ring.step()
        await ring.step()
        assert len(caplog.records) == 1
        assert ring.find(b"sesame") is not None, "the last keys stay"
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink()
        path.write_text(f"b {OTHER} read\n")
        await ring.step()
        assert ring.find(b"open") is not None

    with caplog.at_level(logging.ERROR):
        run(scenario())


def test_keys_can_not_be_guessed_and_be_found_where_they_leak() -> None:
    keys = {make_key() for _ in range(100)}

    assert len(keys) == 100
    assert all(key.startswith("headrace_") and len(key) == 52 for key in keys)


def test_a_new_key_comes_with_the_line_for_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pricing", "--scope", "predict", "--scope", "jobs", "--rate", "2.5"]) == 0

    told = capsys.readouterr()
    key = told.err.split()[-1]
    [grant] = read_grants(told.out).values()
    assert grant.digest == digest_of(key.encode())
    assert (grant.owner, grant.scopes, grant.rate) == ("pricing", frozenset({KeyScope.PREDICT, KeyScope.JOBS}), 2.5)
    assert key not in told.out


@pytest.mark.parametrize(
    "arguments",
    [["a b", "--scope", "read"], ["a"], ["a", "--scope", "write"], ["a", "--scope", "read", "--rate", "many"]],
)
def test_a_line_that_could_not_be_read_is_not_made(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)

    assert ended.value.code == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert "headrace_" not in told.err
