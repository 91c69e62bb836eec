import hashlib

import pytest

from shared.queue import keys
from shared.queue.contract import Lane

FIXED = {
    name: value
    for name, value in vars(keys).items()
    # One is the beginning of all, one a field.
    if name.isupper() and isinstance(value, str) and name not in ("PREFIX", "STALLED")
}
EVERY_KEY = [
    *FIXED.values(),
    keys.job("id"),
    keys.job_index("all", "", 1),
    keys.job_owner("owner"),
    keys.idempotency("key"),
    keys.replies("gateway"),
    keys.held("worker", 0),
]


@pytest.mark.parametrize("key", EVERY_KEY)
def test_every_key_is_recognizably_ours(key: str) -> None:
    assert key.startswith("headrace:")


def test_no_key_is_another() -> None:
    assert len(FIXED) == 14
    assert len({*EVERY_KEY, *(lane.value for lane in Lane)}) == len(EVERY_KEY) + len(Lane)


@pytest.mark.parametrize("id_", ["s:open", "open", "", "s:counts", ":", "x\n"])
def test_no_job_id_leads_to_a_key_of_another_kind(id_: str) -> None:
    others = {*FIXED.values(), keys.idempotency(id_), keys.replies(id_)}

    assert keys.job(id_) not in others


@pytest.mark.parametrize("chosen", ["order-17", "", "ä€\x00\n", "../../etc", "x" * 100_000])
def test_what_a_caller_chose_is_never_part_of_a_key(chosen: str) -> None:
    key = keys.idempotency(chosen)

    assert key == f"headrace:idempotency:{hashlib.sha256(chosen.encode()).hexdigest()}"
    assert len(key) == len("headrace:idempotency:") + 64


def test_different_callers_keys_are_different_keys() -> None:
    assert len({keys.idempotency(chosen) for chosen in ("a", "A", "a ", " a", "b")}) == 5
