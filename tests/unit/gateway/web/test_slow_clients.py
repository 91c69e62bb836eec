import logging
import resource
import time
from collections import Counter
from dataclasses import dataclass, field

import pytest

from gateway.settings import GatewaySettings
from gateway.web.slow_clients import Connections, Phase, allow_files


@dataclass(eq=False)
class Caller:
    """A connection that waits for what a test says."""

    waits: tuple[Phase, object] | None = None
    cut: list[Phase] = field(default_factory=list)

    def waits_for(self) -> tuple[Phase, object] | None:
        return self.waits

    def cut_off(self, phase: Phase) -> None:
        self.cut.append(phase)


@pytest.fixture
def rejected() -> Counter[str]:
    return Counter()


@pytest.fixture
def watch(rejected: Counter[str], monkeypatch: pytest.MonkeyPatch) -> Connections:
    monkeypatch.setattr(time, "monotonic", lambda: 0.0)
    settings = GatewaySettings(head_receive_seconds=1, body_receive_seconds=2, answer_send_seconds=3, connections_max=3)
    return Connections(settings, lambda reason: rejected.update([reason]))


@pytest.mark.parametrize(("phase", "seconds"), [(Phase.HEAD, 1), (Phase.BODY, 2), (Phase.ANSWER, 3)])
def test_who_takes_too_long_is_cut_off(
    watch: Connections, rejected: Counter[str], phase: Phase, seconds: float
) -> None:
    slow = Caller((phase, "request"))
    watch.add(slow)
    watch.look(10)
    watch.look(10 + seconds)
    assert slow.cut == []

    watch.look(10.1 + seconds)
    assert slow.cut == [phase]
    watch.look(100)
    assert slow.cut == [phase], "once"
    assert rejected == {"slow_client": 1}


def test_bytes_now_and_then_do_not_help(watch: Connections) -> None:
    request = object()
    slow = Caller((Phase.BODY, request))
    watch.add(slow)
    for tenth in range(25):
        watch.look(tenth / 10)

    assert slow.cut == [Phase.BODY]


def test_another_request_or_another_part_has_its_own_time(watch: Connections) -> None:
    busy = Caller()
    watch.add(busy)
    for second in range(20):
        # Equal, and not the same.
        busy.waits = (Phase.HEAD, {"path": "/"}) if second % 2 else (Phase.BODY, [])
        watch.look(second * 1.5)

    assert busy.cut == []


def test_who_waits_for_us_may_wait(watch: Connections) -> None:
    waiting = Caller()
    watch.add(waiting)
    for second in range(100):
        watch.look(second)

    assert waiting.cut == []


def test_who_connects_and_says_nothing_is_cut_off(watch: Connections) -> None:
    silent = Caller((Phase.HEAD, None))
    watch.add(silent)
    watch.look(1.1)

    assert silent.cut == [Phase.HEAD], "counted from its coming"


def test_there_may_be_so_many(watch: Connections, rejected: Counter[str]) -> None:
    callers = [Caller() for _ in range(4)]
    assert [watch.add(caller) for caller in callers] == [True, True, True, False]
    assert rejected == {"connections_full": 1}

    # The one that was not taken goes, then another.
    watch.remove(callers[3])
    assert not watch.add(Caller())
    watch.remove(callers[0])
    assert watch.add(Caller())


def test_files_are_allowed_for_them(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    limits = (256, 5000)

    def set_limits(_: int, new: tuple[int, int]) -> None:
        nonlocal limits
        limits = new

    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(resource, "setrlimit", set_limits)
    with caplog.at_level(logging.WARNING):
        allow_files(1000)
        assert limits == (1200, 5000)
        allow_files(10)
        assert limits == (1200, 5000), "never fewer"
        assert caplog.messages == []
        allow_files(20_000)
        assert limits == (5000, 5000)
    assert caplog.messages == ["CONNECTIONS_MAX is 20000, and this process may have 5000 open files only"]
