import io
import mmap

import pytest

from headrace.errors import ArtifactInvalid
from headrace.loading import bounds
from headrace.loading.bounds import BoundedStream

TOO_MUCH = "it unpacks to more than the 10 bytes that it may take"


def stream(content: bytes = b"0123456789") -> BoundedStream:
    return BoundedStream(io.BytesIO(content), 10)


def test_as_many_bytes_as_the_bound_are_read() -> None:
    bounded = stream()

    assert [bounded.read(4), bounded.read(100), bounded.read(1), bounded.tell()] == [b"0123", b"456789", b"", 10]


def test_all_that_is_left_is_read() -> None:
    assert stream().read() == b"0123456789"


@pytest.mark.parametrize("n_bytes", [11, 10**12, -1])
def test_more_bytes_are_refused(n_bytes: int) -> None:
    with pytest.raises(ArtifactInvalid, match=TOO_MUCH):
        stream(b"0123456789A").read(n_bytes)


def test_no_more_is_asked_for_than_may_be_read() -> None:
    asked: list[int] = []

    class Endless(io.BytesIO):
        def read(self, n_bytes: int | None = -1) -> bytes:
            asked.append(n_bytes or 0)
            return bytes(n_bytes or 0)

    with pytest.raises(ArtifactInvalid):
        BoundedStream(Endless(), 10).read(10**12)
    assert asked == [11]


def test_a_line_has_the_bound_too() -> None:
    bounded = stream(b"012\n456789\n")

    assert bounded.readline() == b"012\n"
    with pytest.raises(ArtifactInvalid, match=TOO_MUCH):
        bounded.readline()


def test_bytes_that_are_read_again_count_again() -> None:
    bounded = stream()
    bounded.read(6)
    bounded.seek(0)

    with pytest.raises(ArtifactInvalid, match=TOO_MUCH):
        bounded.read(6)


def test_memory_is_refused_before_it_is_allocated() -> None:
    bounded = stream()
    bounded.require(10)

    with pytest.raises(ArtifactInvalid, match=TOO_MUCH):
        bounded.require(11)


def test_the_memory_of_the_process_has_the_bound_too(monkeypatch: pytest.MonkeyPatch) -> None:
    private = [1_000]
    monkeypatch.setattr(bounds, "_private_bytes", lambda: private[0])
    monkeypatch.setattr(bounds, "CHECKED_EVERY_BYTES", 2)
    monkeypatch.setattr(bounds, "SLACK_BYTES", 5)
    bounded = stream()
    private[0] = 1_015
    bounded.read(2)
    private[0] = 1_016

    bounded.read(1)
    with pytest.raises(ArtifactInvalid, match="it takes more memory than the 10 bytes that it may take"):
        bounded.read(1)


def test_the_memory_of_a_process_is_known() -> None:
    before = bounds._private_bytes()
    # Python's own memory may come from what was freed before.
    with mmap.mmap(-1, 20_000_000, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as held:
        held[:] = b"1" * len(held)

        assert bounds._private_bytes() > before + len(held) // 2 > 0
