import json
from typing import Any

import pytest
from fakeredis import FakeRedis, FakeServer

from gateway.broker import dead_letters
from gateway.broker.dead_letters import main
from shared.queue import keys
from shared.queue.dead_letters import DeadLetter
from tests.support.hostile_texts import HOSTILE_TEXTS, harmless

ESCAPE = b"\x1b[2Jtext\xff\n"


@pytest.fixture
def client(broker: FakeServer, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(dead_letters, "connect", lambda *_, **__: FakeRedis(server=broker))
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


def test_no_text_of_a_letter_reaches_the_terminal_as_it_is(client: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for text in HOSTILE_TEXTS[:-2]:
        letter = DeadLetter.of(b"text", text, text, 1.0).model_copy(update={"id": f"{text}\n"})
        client.lpush(keys.DEAD_LETTERS, letter.model_dump_json())

    assert main(["list"]) == 0
    assert main(["show", HOSTILE_TEXTS[0]]) == 1

    out, err = capsys.readouterr()
    assert harmless(out + err)
    assert len(out.splitlines()) == 1 + len(HOSTILE_TEXTS) - 2


@pytest.mark.parametrize(
    "letter",
    [
        {"at": 1e300},
        {"at": -1e300},
        {"at": "NaN"},
        {"entry": "!"},
        {"entry": "ü"},
        {"entry": "gASVA"},
        {"queue": None},
        {"id": ["a"]},
    ],
)
def test_a_letter_that_can_not_be_shown_hides_no_other(
    client: Any, capsys: pytest.CaptureFixture[str], letter: dict[str, Any]
) -> None:
    id_ = put_aside(client, b"text")
    whole = DeadLetter.of(b"text", "bulk", "malformed", 1.0).model_dump()
    client.lpush(keys.DEAD_LETTERS, json.dumps({**whole, **letter}))

    assert main(["list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]] == ["?", id_]
    assert main(["drop", "?"]) == 0
    assert client.llen(keys.DEAD_LETTERS) == 1


@pytest.mark.parametrize("queue", ["unacked", "headrace:jobs:open", "", "interactively"])
def test_nothing_is_put_back_but_into_a_queue(client: Any, capsys: pytest.CaptureFixture[str], queue: str) -> None:
    id_ = put_aside(client, b"text", queue)

    assert main(["requeue", id_]) == 1
    assert main(["requeue", "--all"]) == 0

    assert client.keys() == [keys.DEAD_LETTERS.encode()]
    assert "can only be dropped" in capsys.readouterr().err


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


def test_damaged_data_was_in_no_queue_and_is_put_back_into_none(
    client: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    id_ = put_aside(client, b"content", queue="")

    assert main(["requeue", "--all"]) == 0
    assert main(["requeue", id_]) == 1

    assert client.keys() == [keys.DEAD_LETTERS.encode()]
    assert "1 were in no queue" in capsys.readouterr().err
    assert main(["show", id_]) == 0
    assert main(["drop", id_]) == 0


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
    assert capsys.readouterr() == (
        "",
        "headrace: Redis at 127.0.0.1:7777: ConnectionError; REDIS_URL says where it is\n",
    )
