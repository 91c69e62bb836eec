import pytest
from redis.exceptions import ConnectionError as Lost
from redis.exceptions import ReadOnlyError, ResponseError

from shared import master
from shared.broker_url import Sentinels
from shared.master import Locator, MasterUnknown, SentinelOrder, is_demoted, live_master, locator

THREE = Sentinels(("redis://a:1/0", "redis://b:2/0", "redis://c:3/0"), "m")
ALIVE = {"is_sdown": False, "is_odown": False, "is_master": True, "ip": "h", "port": 7}


@pytest.mark.parametrize(
    ("error", "demoted"),
    [
        (ReadOnlyError("You can't write against a read only replica."), True),
        (ResponseError("READONLY You can't write against a read only replica. script: 12, on @user_script:1."), True),
        (ResponseError("UNBLOCKED force unblock from blocking operation, instance state changed"), True),
        (ResponseError("UNBLOCKED client unblocked via CLIENT UNBLOCK"), False),
        (ResponseError("WRONGTYPE Operation against a key"), False),
        (ResponseError("NOREPLICAS Not enough good replicas to write."), False),
    ],
)
def test_an_answer_tells_whether_the_server_is_a_replica(error: ResponseError, demoted: bool) -> None:
    assert is_demoted(error) is demoted


@pytest.mark.parametrize("flag", [{"is_sdown": True}, {"is_odown": True}, {"is_master": False}])
def test_a_master_that_a_sentinel_takes_for_dead_is_none(flag: dict[str, bool]) -> None:
    assert live_master(ALIVE) == ("h", 7)
    assert live_master(ALIVE | flag) is None


def test_a_sentinel_that_helped_is_asked_first() -> None:
    order = SentinelOrder(THREE)

    order.put_last("redis://a:1/0")
    assert order.all() == ["redis://b:2/0", "redis://c:3/0", "redis://a:1/0"]
    order.put_first("redis://c:3/0")
    assert order.all() == ["redis://c:3/0", "redis://b:2/0", "redis://a:1/0"]


class Answers:
    """Sentinels without a network: what each says about the master, by its URL."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **answers: dict[str, object]) -> None:
        self.answers = answers
        self.asked: list[str] = []
        monkeypatch.setattr("redis.Redis.from_url", lambda url, **_: _Sentinel(self, url))


class _Sentinel:
    def __init__(self, all_of_them: Answers, url: str) -> None:
        self._all, self._name = all_of_them, url.removeprefix("redis://")[0]

    def __enter__(self) -> "_Sentinel":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def sentinel_master(self, _: str) -> dict[str, object]:
        self._all.asked.append(self._name)
        if self._name not in self._all.answers:
            raise Lost("refused")
        return self._all.answers[self._name]


def test_sentinels_are_asked_until_one_knows_a_live_master(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = Answers(monkeypatch, b=ALIVE | {"is_sdown": True}, c=ALIVE)
    locate = Locator(THREE)

    assert locate() == ("h", 7)
    assert locate() == ("h", 7)
    assert answers.asked == ["a", "b", "c", "c"]


def test_without_one_the_last_reason_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    Answers(monkeypatch)

    with pytest.raises(MasterUnknown, match=r"no Sentinel knows a live master of the name 'm': refused"):
        Locator(THREE)()


def test_a_connection_in_use_asks_one_sentinel_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(master, "monotonic", lambda: now)
    answers = Answers(monkeypatch, a=ALIVE, b=ALIVE, c=ALIVE)
    locate = Locator(THREE)
    address = locate()

    assert not locate.has_left(address)
    assert answers.asked == ["a"]
    now += master.CHECK_SECONDS
    answers.answers = {name: ALIVE | {"port": 8} for name in "abc"}
    assert locate.has_left(address)
    assert not locate.has_left(("h", 8))
    assert answers.asked == ["a", "a"]
    # A Sentinel that does not answer costs time, so the next one is asked later.
    answers.answers = {}
    now += master.CHECK_SECONDS
    assert not locate.has_left(("h", 8))
    now += master.CHECK_SECONDS
    assert not locate.has_left(("h", 8))
    assert answers.asked == ["a", "a", "a"]
    now += master.PAUSE_SECONDS
    assert not locate.has_left(("h", 8))
    assert answers.asked == ["a", "a", "a", "b"]


def test_the_connections_of_a_process_share_what_they_know() -> None:
    assert locator(THREE) is locator(Sentinels(THREE.urls, "m"))
