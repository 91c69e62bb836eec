from typing import Any

import pytest
import redis
from fakeredis import FakeRedis, FakeServer

from gateway.broker.dead_letters import main
from shared.queue import keys
from shared.queue.dead_letters import DeadLetter

ESCAPE = b"\x1b[2Jtext\xff\n"


@pytest.fixture
def client(broker: FakeServer, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(redis.Redis, "from_url", lambda *_, **__: FakeRedis(server=broker))
    return FakeRedis(server=broker)


def put_aside(client: Any, entry: bytes, queue: str = "bulk") -> str:
    letter = DeadLetter.of(entry, queue, "malformed", 1_795_000_000)
    client.lpush(keys.DEAD_LETTERS, letter.model_dump_json())
    return letter.id


def test_the_list_shows_their_queues_and_reasons(client: Any, capsys: pytest.CaptureFixture[str]) -> None:
    id_ = put_aside(client, b"text", "interactive")
    client.lpush(keys.DEAD_LETTERS, b"of an older version")

    assert main(["list"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[0] == "?"
    assert lines[2].split() == [id_, "2026-11-18T11:06:40Z", "interactive", "4", "malformed"]


def test_an_entry_is_shown_with_its_control_characters_escaped(client: Any, capsys: pytest.CaptureFixture[str]) -> None:
    id_ = put_aside(client, ESCAPE)

    assert main(["show", id_]) == 0

    assert capsys.readouterr().out == "\\x1b[2Jtext\\\\xff\\n\n"


def test_one_is_put_back_into_its_queue(client: Any, capsys: pytest.CaptureFixture[str]) -> None:
    kept, requeued = put_aside(client, b"a"), put_aside(client, ESCAPE)

    assert main(["requeue", requeued]) == 0

    assert client.lrange("bulk", 0, -1) == [ESCAPE]
    assert kept.encode() in client.lindex(keys.DEAD_LETTERS, 0)
    assert client.llen(keys.DEAD_LETTERS) == 1
    assert capsys.readouterr().out == "1 put back\n"


def test_all_are_put_back_the_oldest_first(client: Any) -> None:
    for entry in (b"a", b"b"):
        put_aside(client, entry)
    client.lpush(keys.DEAD_LETTERS, b"of an older version")

    assert main(["requeue", "--all"]) == 0

    assert client.lrange("bulk", 0, -1) == [b"b", b"a"], "workers take from the end"
    assert client.lrange(keys.DEAD_LETTERS, 0, -1) == [b"of an older version"]


def test_some_or_all_are_dropped(client: Any) -> None:
    ids = [put_aside(client, b"same") for _ in range(3)]
    client.lpush(keys.DEAD_LETTERS, b"of an older version")

    assert main(["drop", ids[0], ids[1]]) == 0
    assert client.llen(keys.DEAD_LETTERS) == 2
    assert main(["drop", "--all"]) == 0
    assert client.llen(keys.DEAD_LETTERS) == 0
    assert client.llen("bulk") == 0


@pytest.mark.parametrize("command", ["show", "requeue", "drop"])
def test_an_unknown_one_is_refused(client: Any, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "nobody"]) == 1
    assert "no dead letter has the id nobody" in capsys.readouterr().err


def test_a_redis_that_does_not_answer_is_reported(
    client: Any, broker: FakeServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broker.connected = False

    monkeypatch.setenv("REDIS_URL", "redis://operator:secret@127.0.0.1:7777/0")

    assert main(["list"]) == 1
    assert capsys.readouterr() == ("", "headrace: Redis at 127.0.0.1:7777: ConnectionError\n")
