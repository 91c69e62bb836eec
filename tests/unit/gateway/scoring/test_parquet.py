"""Bodies in Parquet: plain tables are rows, and no file takes the gateway's memory, its time or its life."""

import asyncio
import io
import random
import signal
import sys
import time
from datetime import datetime
from decimal import Decimal
from typing import Any

import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest

from gateway.catalog.row_parser import RowParser
from gateway.errors import DeadlineExceeded, InvalidRows, Overloaded
from gateway.problems import Problem
from gateway.scoring import parquet
from gateway.scoring.parquet import ParquetReader, read_columns
from tests.support.coroutines import run, turns, until
from tests.support.manifests import feature, flag, mixed, text

pytestmark = pytest.mark.unit

FEATURES = (feature("length", nullable=True), text("colour"), flag("old.er"))
PARSER = RowParser(mixed(*FEATURES), 1_000)
BYTES_MAX = 1_000_000
NOT_READ = "Input should be a Parquet file of numbers, texts or booleans"
TOO_MUCH = "Input should be a Parquet file that is read with little memory and time"
NOT_PLAIN = "Input should be a column of numbers, texts or booleans"


def columns(n: int = 1, **changed: Any) -> dict[str, Any]:
    """Return columns of n rows with these instead."""
    return {"length": [1.5] * n, "colour": ["red"] * n, "old.er": [True] * n, **changed}


def written(table: dict[str, Any] | pd.DataFrame, **options: Any) -> bytes:
    file = io.BytesIO()
    if isinstance(table, pd.DataFrame):
        table.to_parquet(file, **options)
    else:
        pyarrow.parquet.write_table(pyarrow.table(table), file, **options)
    return file.getvalue()


def read(body: bytes, seconds: float = 60.0) -> list[Any]:
    columns = run(ParquetReader().columns(body, FEATURES, PARSER, BYTES_MAX, "", seconds))
    return [*read_columns(columns, FEATURES, PARSER)]


def mistakes(body: bytes) -> list[Any]:
    with pytest.raises(InvalidRows) as refused:
        read(body)
    return [([*path], detail) for path, detail in refused.value.mistakes]


@pytest.mark.parametrize("compression", ["none", "snappy", "gzip", "zstd", "brotli", "lz4"])
def test_a_table_is_rows_in_feature_order(compression: str) -> None:
    table = {"old.er": [True, False, True], "colour": ["red", "é", ""], "length": [1.5, None, float("nan")]}

    rows = read(written(table, compression=compression, row_group_size=2))

    assert rows == [[1.5, "red", True], [None, "é", False], [None, "", True]]


@pytest.mark.parametrize("index", [None, ["p", "q"]])
def test_a_frame_of_pandas_is_rows_without_its_index(index: list[str] | None) -> None:
    frame = pd.DataFrame(
        {"length": [1.5, None], "colour": pd.Categorical(["red", "blue"]), "old.er": [True, False]}, index=index
    )

    assert read(written(frame)) == [[1.5, "red", True], [None, "blue", False]]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pyarrow.array([7], pyarrow.int8()), 7.0),
        (pyarrow.array([2**53 - 1], pyarrow.uint64()), 2.0**53 - 1),
        (pyarrow.array([0.1], pyarrow.float32()), 0.10000000149011612),
        (pyarrow.array([4]).dictionary_encode(), 4.0),
        (pyarrow.nulls(1), None),
    ],
    ids=["int8", "uint64", "float32", "dictionary", "null"],
)
def test_numbers_keep_their_values(values: Any, expected: float | None) -> None:
    assert read(written(columns(length=values))) == [[expected, "red", True]]


@pytest.mark.parametrize(
    ("changed", "place", "detail"),
    [
        ({"length": [datetime(2026, 1, 1)]}, [0, "length"], NOT_PLAIN),
        ({"length": [Decimal("1.5")]}, [0, "length"], NOT_PLAIN),
        ({"length": [[1.5]]}, [0, "length"], NOT_PLAIN),
        ({"length": [{"length": 1.5}]}, [0, "length"], NOT_PLAIN),
        ({"colour": [b"\xff"]}, [0, "colour"], NOT_PLAIN),
        ({"length": [float("-inf")]}, [0, "length"], "Input should be a finite number"),
        ({"length": ["1.5"]}, [0, "length"], "Input should be a valid number"),
        ({"length": [2**53 + 1]}, [0, "length"], "float64 holds exactly"),
        ({"colour": [None]}, [0, "colour"], "Input should be a valid string"),
        ({"extra": [1.0]}, [0, "extra"], "Extra inputs are not permitted"),
    ],
    ids=str,
)
def test_other_columns_are_mistakes_at_their_places(changed: Any, place: list[Any], detail: str) -> None:
    [(path, found)] = mistakes(written(columns(**changed)))

    assert path == place
    assert detail in found


def test_a_column_that_is_not_there_is_missing() -> None:
    table = columns()
    del table["length"]
    assert read(written(table)) == [[None, "red", True]]
    del table["colour"]
    assert mistakes(written(table)) == [([0, "colour"], "Field required")]


def test_two_columns_of_one_name_are_refused() -> None:
    table = pyarrow.Table.from_arrays([pyarrow.array([1.0])] * 2, ["length", "length"])
    file = io.BytesIO()
    pyarrow.parquet.write_table(table, file)

    assert mistakes(file.getvalue()) == [([], "Input should have columns of different names")]


WHOLE = written(columns(3))


@pytest.mark.parametrize(
    "body",
    [b"", b"PAR1", b"length\n1.5\n", WHOLE[:-1], WHOLE[1:], WHOLE[:4] + bytes(60) + WHOLE[64:]],
    ids=["empty", "magic", "CSV", "truncated", "beheaded", "overwritten"],
)
def test_no_parquet_is_said_so(body: bytes) -> None:
    assert mistakes(body) == [([], NOT_READ)]


@pytest.mark.parametrize("n", [0, 1_001, 3_000_000])
def test_rows_are_counted_before_they_are_read(n: int) -> None:
    assert mistakes(written(columns(n))) == [([], "Input should have 1 to 1000 rows")]


def varint(number: int, length: int) -> bytes:
    """Return a number as the footer writes it, in so many bytes."""
    number *= 2
    digits = [number >> 7 * at & 127 for at in range(length)]
    return bytes([*(digit | 128 for digit in digits[:-1]), digits[-1]])


def test_a_footer_that_lies_about_the_rows_is_found_out() -> None:
    honest = written(columns(2_000_003), compression="zstd", write_statistics=False)
    footer = len(honest) - 8 - int.from_bytes(honest[-8:-4], "little")
    lying = honest[:footer] + honest[footer:].replace(varint(2_000_003, 4), varint(3, 4))
    assert pyarrow.parquet.read_metadata(io.BytesIO(lying)).num_rows == 3

    try:
        rows = read(lying)
    except InvalidRows as error:
        assert error.mistakes[0][1] in (NOT_READ, TOO_MUCH)
    else:
        assert rows == [[1.5, "red", True]] * 3


LONG = "x" * 1_000_000


@pytest.mark.parametrize(
    ("changed", "options", "detail"),
    [
        ({"colour": pyarrow.DictionaryArray.from_arrays([0] * 1_000, [LONG])}, {}, TOO_MUCH),
        ({"colour": [f"{at}{LONG[:100_000]}" for at in range(1_000)]}, {"use_dictionary": False}, TOO_MUCH),
        (
            {"colour": [f"{at}{LONG[:300_000]}" for at in range(1_000)]},
            {"use_dictionary": False},
            "Input should have at most 256000000 bytes when it is unpacked",
        ),
        (
            {"colour": [f"{at}{LONG[:5_000]}" for at in range(1_000)]},
            {},
            "Input should have at most 1000000 bytes as JSON",
        ),
    ],
    ids=["one text for all", "100 MB", "300 MB", "5 MB"],
)
def test_a_few_bytes_that_stand_for_many_are_refused(changed: Any, options: Any, detail: str) -> None:
    body = written(columns(1_000, **changed), compression="zstd", **options)
    assert len(body) < 50_000

    assert mistakes(body) == [([], detail)]


def test_many_columns_are_refused_soon() -> None:
    body = written({f"c{at}": [1.0] for at in range(10_000)})
    began_at = time.perf_counter()

    assert mistakes(body) == [([0, "c0"], "Extra inputs are not permitted")]
    assert time.perf_counter() - began_at < 30


def test_changed_bytes_never_end_in_anything_but_rows_or_mistakes() -> None:
    chance = random.Random(7)
    for _ in range(30):
        body = bytearray(WHOLE)
        for _ in range(chance.randint(1, 4)):
            body[chance.randrange(len(body))] = chance.randrange(256)
        try:
            assert len(read(bytes(body))) <= 1_000
        except InvalidRows as error:
            assert error.mistakes


def test_a_file_that_takes_too_long_ends_with_its_deadline() -> None:
    with pytest.raises(DeadlineExceeded):
        read(WHOLE, 0.001)


def test_the_process_ends_with_the_request_that_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[asyncio.subprocess.Process] = []
    start = asyncio.create_subprocess_exec

    async def noted(*command: str, **options: Any) -> asyncio.subprocess.Process:
        started.append(await start(*command, **options))
        return started[0]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", noted)

    async def scenario() -> None:
        reading = asyncio.create_task(ParquetReader().columns(WHOLE, FEATURES, PARSER, BYTES_MAX, "", 60))
        await until("the process has started", lambda: started)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading

    run(scenario())

    assert started[0].returncode == -signal.SIGKILL


def test_many_row_groups_are_refused() -> None:
    detail = "Input should have at most 100 row groups, and 10000 columns in all of them"

    assert len(read(written(columns(100), row_group_size=1))) == 100
    assert mistakes(written(columns(101), row_group_size=1)) == [([], detail)]
    wide = written({f"c{at}": [1.0, 2.0] for at in range(5_001)}, row_group_size=1)
    assert mistakes(wide) == [([], detail)]


def test_a_file_that_takes_long_is_given_up_for_another_owner_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "SHARE_SECONDS", 0.0)
    monkeypatch.setattr(parquet, "CHECK_SECONDS", 0.01)
    started: list[asyncio.subprocess.Process] = []
    start = asyncio.create_subprocess_exec

    async def slow_at_first(*command: str, **options: Any) -> asyncio.subprocess.Process:
        sleeping = [sys.executable, "-c", "import time; time.sleep(600)"]
        started.append(await start(*(command if started else sleeping), **options))
        return started[-1]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", slow_at_first)

    async def scenario() -> None:
        reader = ParquetReader()

        def asking(owner: str) -> "asyncio.Task[bytes]":
            return asyncio.create_task(reader.columns(WHOLE, FEATURES, PARSER, BYTES_MAX, owner, 60))

        slow = asking("a")
        await until("the process has started", lambda: started)
        own = asking("a")
        done, _ = await asyncio.wait([slow], timeout=0.3)
        assert not done, "one's own files wait"
        other = asking("b")
        with pytest.raises(Overloaded):
            await slow
        assert started[0].returncode == -signal.SIGKILL
        # Here "b" is over its share as soon as it has one.
        with pytest.raises(Overloaded):
            await other
        assert len(read_columns(await own, FEATURES, PARSER)) == 3

    run(scenario())


def test_a_process_whose_caller_leaves_while_it_starts_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[asyncio.subprocess.Process] = []
    start = asyncio.create_subprocess_exec

    async def scenario() -> None:
        connected = asyncio.Event()

        async def slow_start(*command: str, **options: Any) -> asyncio.subprocess.Process:
            started.append(await start(*command, **options))
            await connected.wait()
            return started[0]

        monkeypatch.setattr(asyncio, "create_subprocess_exec", slow_start)
        leaving = asyncio.create_task(ParquetReader().columns(WHOLE, FEATURES, PARSER, BYTES_MAX, "a", 60))
        await until("the process has started", lambda: started)
        leaving.cancel()
        await turns()
        connected.set()
        with pytest.raises(asyncio.CancelledError):
            await leaving

    run(scenario())

    assert started[0].returncode == -signal.SIGKILL


def test_without_pyarrow_a_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "find_spec", lambda _: None)

    with pytest.raises(Problem) as refused:
        read(WHOLE)

    assert refused.value.status == 415
    assert "pyarrow" in refused.value.detail
