import logging
import resource
import time
from collections import Counter
from dataclasses import dataclass, field

import pytest

from gateway.settings import GatewaySettings
from gateway.web.slow_clients import ConnectionMonitor, Phase, raise_file_limit


@dataclass(eq=False)
class Caller:
    """A connection that waits for what a test says."""

    waits: tuple[Phase, object] | None = None
    cut: list[Phase] = field(default_factory=list)

    def awaited_phase(self) -> tuple[Phase, object] | None:
        return self.waits

    def cut_off(self, phase: Phase) -> None:
        self.cut.append(phase)


@pytest.fixture
def rejected() -> Counter[str]:
    return Counter()


@pytest.fixture
def monitor(rejected: Counter[str], monkeypatch: pytest.MonkeyPatch) -> ConnectionMonitor:
    monkeypatch.setattr(time, "monotonic", lambda: 0.0)
    settings = GatewaySettings(head_receive_seconds=1, body_receive_seconds=2, answer_send_seconds=3, connections_max=3)
    return ConnectionMonitor(settings, lambda reason: rejected.update([reason]))


@pytest.mark.parametrize(("phase", "seconds"), [(Phase.HEAD, 1), (Phase.BODY, 2), (Phase.ANSWER, 3)])
def test_who_takes_too_long_is_cut_off(
    monitor: ConnectionMonitor, rejected: Counter[str], phase: Phase, seconds: float
) -> None:
    slow = Caller((phase, "request"))
    monitor.add(slow)
    monitor.check(10)
    monitor.check(10 + seconds)
    assert slow.cut == []

    monitor.check(10.1 + seconds)
    assert slow.cut == [phase]
    monitor.check(100)
    assert slow.cut == [phase], "once"
    assert rejected == {"slow_client": 1}


def test_bytes_now_and_then_do_not_help(monitor: ConnectionMonitor) -> None:
    request = object()
    slow = Caller((Phase.BODY, request))
    monitor.add(slow)
    for tenth in range(25):
        monitor.check(tenth / 10)

    assert slow.cut == [Phase.BODY]


def test_another_request_or_another_part_has_its_own_time(monitor: ConnectionMonitor) -> None:
    busy = Caller()
    monitor.add(busy)
    for second in range(20):
        # Equal, and not the same.
        busy.waits = (Phase.HEAD, {"path": "/"}) if second % 2 else (Phase.BODY, [])
        monitor.check(second * 1.5)

    assert busy.cut == []


def test_who_awaited_phase_us_may_wait(monitor: ConnectionMonitor) -> None:
    waiting = Caller()
    monitor.add(waiting)
    for second in range(100):
        monitor.check(second)

    assert waiting.cut == []


def test_who_connects_and_says_nothing_is_cut_off(monitor: ConnectionMonitor) -> None:
    silent = Caller((Phase.HEAD, None))
    monitor.add(silent)
    monitor.check(1.1)

    assert silent.cut == [Phase.HEAD], "counted from its coming"


def test_there_may_be_so_many(monitor: ConnectionMonitor, rejected: Counter[str]) -> None:
    callers = [Caller() for _ in range(4)]
    assert [monitor.add(caller) for caller in callers] == [True, True, True, False]
    assert rejected == {"connections_full": 1}

    # The one that was not taken goes, then another.
    monitor.remove(callers[3])
    assert not monitor.add(Caller())
    monitor.remove(callers[0])
    assert monitor.add(Caller())


def test_files_are_allowed_for_them(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    limits = (256, 5000)

    def set_limits(_: int, new: tuple[int, int]) -> None:
        nonlocal limits
        limits = new

    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(resource, "setrlimit", set_limits)
    with caplog.at_level(logging.WARNING):
        raise_file_limit(1000)
        assert limits == (1200, 5000)
        raise_file_limit(10)
        assert limits == (1200, 5000), "never fewer"
        assert caplog.messages == []
        raise_file_limit(20_000)
        assert limits == (5000, 5000)
    assert caplog.messages == ["CONNECTIONS_MAX is 20000, and this process may have 5000 open files only"]
