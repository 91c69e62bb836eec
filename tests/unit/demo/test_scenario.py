import math

from demo.scenario import BURST_SECONDS, RAMP_SECONDS, Scenario


def test_drift_sets_in_and_stays() -> None:
    scenario = Scenario(drift_after=30)
    assert scenario.drift(0) == scenario.drift(30) == 0
    assert scenario.drift(30 + RAMP_SECONDS / 2) == 0.5
    assert scenario.drift(30 + RAMP_SECONDS) == scenario.drift(10_000) == 1
    assert Scenario(drift_after=math.inf).drift(10_000) == 0


def test_bursts_come_again_and_again() -> None:
    scenario = Scenario(burst_every=40)
    starts = []
    now = 0.0
    for _ in range(3):
        now = scenario.next_burst(now)
        starts.append(now)
        assert scenario.in_burst(now) and scenario.in_burst(now + BURST_SECONDS - 0.1)
        assert scenario.next_burst(now + 1) == now
        now += BURST_SECONDS
        assert not scenario.in_burst(now)
    assert starts == [20, 60, 100]


def test_bursts_that_last_longer_than_their_pause_follow_each_other() -> None:
    scenario = Scenario(burst_every=2)
    assert not scenario.in_burst(0.5)
    assert all(scenario.in_burst(1 + tenths / 10) for tenths in range(100))


def test_without_bursts_there_is_none() -> None:
    scenario = Scenario(burst_every=0)
    assert scenario.next_burst(0) == math.inf
    assert not scenario.in_burst(100)


def test_each_moment_has_a_word() -> None:
    scenario = Scenario(drift_after=35, burst_every=40)
    assert [scenario.phase(at) for at in (0, 20, 28, 35.5, 60, 70)] == [
        "steady",
        "burst",
        "steady",
        "drift",
        "burst",
        "drift",
    ]
