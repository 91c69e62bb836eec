import pytest

from gateway.auth.rate_limit import TokenBucket
from tests.support.jobs import Clock


def test_a_burst_is_let_through_and_then_the_rate() -> None:
    clock = Clock()
    bucket = TokenBucket(rate=2, burst=3, clock=clock)

    assert [bucket.take() for _ in range(3)] == [0.0, 0.0, 0.0]
    assert bucket.take() == pytest.approx(0.5), "seconds until the next"
    clock.pass_(0.25)
    assert bucket.take() == pytest.approx(0.25)
    clock.pass_(0.25)
    assert bucket.take() == 0.0
    assert bucket.take() > 0


def test_more_than_the_burst_is_never_saved_up() -> None:
    clock = Clock()
    bucket = TokenBucket(rate=100, burst=2, clock=clock)
    clock.pass_(3600)

    assert [bucket.take() > 0 for _ in range(3)] == [False, False, True]


def test_who_is_refused_pays_nothing() -> None:
    clock = Clock()
    bucket = TokenBucket(rate=1, burst=1, clock=clock)
    bucket.take()
    for _ in range(100):
        assert bucket.take() > 0
    clock.pass_(1)

    assert bucket.take() == 0.0
