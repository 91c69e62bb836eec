import pytest

from shared.queue.dead_letters import DeadLetter, kept_after


@pytest.mark.parametrize(
    ("entry_bytes", "kept"), [(0, 1000), (10_000, 1000), (30_000, 799), (3_000_000, 7), (10**8, 1)]
)
def test_of_large_letters_fewer_are_kept(entry_bytes: int, kept: int) -> None:
    letter = DeadLetter.of(b"x" * entry_bytes, "bulk", "malformed", 1.0).model_dump_json()

    assert kept_after(letter) == pytest.approx(kept, rel=0.01)
