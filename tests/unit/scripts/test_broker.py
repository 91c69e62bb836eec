import asyncio
from pathlib import Path

import pytest

from scripts import broker
from scripts.ports import Port
from scripts.refusal import Refusal
from tests.unit.scripts.conftest import Answer


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ("redis://:secret@cache.example:6380/2", "redis://***@cache.example:6380/2"),
        ("rediss://user:secret@cache.example", "rediss://***@cache.example"),
        (
            "sentinel://user:secret@a.example:1,b.example/0?sentinel_password=secret",
            "sentinel://***@a.example:1,b.example/0",
        ),
        ("redis://cache.example/0?password=secret", "redis://cache.example/0"),
        ("redis://:se/secret@cache.example/0", "that URL"),
        ("redis://se?secret@cache.example/0", "redis://***"),
        ("redis://:secret@[cache.example/0", "that URL"),
        ("redis://:secret@cache.example:port/0", "that URL"),
        ("unix:///run/redis.sock?db=1", "unix:///run/redis.sock"),
    ],
)
def test_redacted_shows_no_secret(url: str, shown: str) -> None:
    assert broker.redacted(url) == shown


@pytest.mark.parametrize("secret", ["secret", "se:secret", "se/secret", "se@secret", "[secret", "se?secret"])
def test_an_unreachable_url_is_one_line_without_credentials(free_port: int, secret: str) -> None:
    with pytest.raises(Refusal) as refusal:
        broker.check_reachable(f"redis://user:{secret}@127.0.0.1:{free_port}/0")

    assert str(refusal.value).startswith("no Redis answers at REDIS_URL ")
    assert "secret" not in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_the_reason_is_given(free_port: int) -> None:
    assert "refused" in str(broker.why_unreachable(f"redis://127.0.0.1:{free_port}/0"))


def test_a_server_that_is_no_redis_is_refused(fake_gateway: Answer) -> None:
    assert broker.why_unreachable(f"redis://127.0.0.1:{fake_gateway.port}/0")


def test_a_server_that_says_nothing_is_given_up(taken_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "TIMEOUT_SECONDS", 0.1)

    assert broker.why_unreachable(f"redis://127.0.0.1:{taken_port}/0")


def test_somebody_elses_redis_is_recognised(guarded_redis: int) -> None:
    with pytest.raises(Refusal, match=rf"another Redis; use it: make up REDIS_URL=redis://127.0.0.1:{guarded_redis}/0"):
        broker.check_not_foreign(Port("REDIS_PORT", guarded_redis, "broker"))


def test_another_program_is_left_to_the_check_of_ports(fake_gateway: Answer) -> None:
    broker.check_not_foreign(Port("REDIS_PORT", fake_gateway.port, "broker"))


def test_the_wait_for_our_own_ends(free_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "PATIENCE_SECONDS", 0.1)

    with pytest.raises(Refusal, match="the broker did not answer within"):
        asyncio.run(broker.answers(f"redis://127.0.0.1:{free_port}/0"))


def test_the_server_on_path_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("valkey-server", "redis-server"):
        program = tmp_path / name
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
        assert broker.find_server() == str(program)
