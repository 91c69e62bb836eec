import time

import pytest

from gateway.api.predict import PREFER_CHARACTERS_MAX, _preferred_seconds
from gateway.problems import Problem


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        ("wait=3", 3.0),
        ("WAIT = 3", 3.0),
        ('wait="3"', 3.0),
        ("return=minimal, wait=3; strictly", 3.0),
        ("respond-async, wait=10", 10.0),
        ("respond-async", -1.0),
        ("Respond-Async; soon", -1.0),
        ("wait=3, wait=4", 3.0),
        ("", None),
        ("await=3", None),
        ("nowait=1", None),
        ("respond-asynchronously", None),
        ('handling=lenient; foo="wait=3"', None),
        ('foo="a, wait=3"', None),
        ('foo="respond-async', None),
        ("wait", None),
        ("wait=", None),
        ("wait=1234567", None),
        ("wait=-1", None),
    ],
)
def test_a_job_is_made_only_for_those_who_ask_for_one(prefer: str, seconds: float | None) -> None:
    assert _preferred_seconds(prefer) == seconds


@pytest.mark.parametrize(
    "prefer", ['"' * 60_000, '"\\' * 30_000, "wait=" * 12_000, "wait =" + " " * 60_000, "," * 60_000]
)
def test_a_long_header_takes_no_time(prefer: str) -> None:
    began = time.process_time()

    for _ in range(100):
        assert _preferred_seconds(prefer[:PREFER_CHARACTERS_MAX]) in (None, 1.0)

    assert time.process_time() - began < 2
    with pytest.raises(Problem, match="1000 characters"):
        _preferred_seconds(prefer[: PREFER_CHARACTERS_MAX + 1])
