"""A process that reads one Parquet file for `ParquetReader`: `python -m gateway.scoring.parquet_process`.

A few bytes of Parquet can stand for a billion values, its pages say how much memory they need, and the library that
believes them is written in C++. Here the kernel limits memory and time, and a crash ends nothing else. The process
knows no setting and no secret of the gateway.

Its input is a line of JSON, the `Limits`, and then the file. Its output is JSON: `columns`, the values by name, and
`rows`, their number; or `mistakes`, each with its path and what is wrong.
"""

import math
import resource
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypedDict

import orjson

MEMORY_BYTES = 256_000_000
"""Memory that the process may take beside that of its libraries, where the system is Linux."""

CPU_SECONDS = 2
"""Computing that the process may take: a file of 4 MB takes 0.3 s with 50 columns, and 1.2 s with 1,000."""

ROW_GROUPS_MAX, CHUNKS_MAX = 100, 10_000
"""Row groups of a file, and columns of all of them together: each may be a page that unpacks to many megabytes."""

NOT_READ = "Input should be a Parquet file of numbers, texts or booleans"


class Limits(TypedDict):
    """The limits of one file."""

    names: list[str]
    """Columns that the file may have."""
    rows_max: int
    bytes_max: int
    """Longest output."""


class Mistake(Exception):
    """A mistake in the file."""

    def __init__(self, path: Sequence[int | str], detail: str) -> None:
        super().__init__(detail)
        self.path = path
        self.detail = detail


def main() -> None:
    """Read the file of the standard input, and write its columns."""
    file = sys.stdin.buffer
    limits: Limits = orjson.loads(file.readline())
    try:
        output = orjson.dumps(_columns(file.read(), limits))
        if len(output) > limits["bytes_max"]:
            raise Mistake([], f"Input should have at most {limits['bytes_max']} bytes as JSON")
    except Mistake as mistake:
        output = orjson.dumps({"mistakes": [[mistake.path, mistake.detail]]})
    sys.stdout.buffer.write(output)


def _columns(body: bytes, limits: Limits) -> dict[str, Any]:
    # Arrow does without NumPy, which would take memory and time and is nothing that a gateway loads.
    sys.modules["numpy"] = None  # type: ignore[assignment]
    import pyarrow
    import pyarrow.parquet

    _limit_resources()
    try:
        table = _table(pyarrow, body, limits)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        # MemoryError has no words for the caller: it ends the process.
        if isinstance(error, MemoryError):
            raise
        raise Mistake([], NOT_READ) from None
    columns = {name: _values(name, column) for name, column in zip(table.column_names, table.columns, strict=True)}
    return {"columns": columns, "rows": table.num_rows}


def _limit_resources() -> None:
    with suppress(OSError):
        # If the machine is short of memory, the kernel ends this process and not the gateway.
        Path("/proc/self/oom_score_adj").write_text("1000")
        lines = Path("/proc/self/status").read_text().splitlines()
        [kilobytes] = [int(line.split()[1]) for line in lines if line.startswith("VmData:")]
        most = 1024 * kilobytes + MEMORY_BYTES
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _table(pyarrow: Any, body: bytes, limits: Limits) -> Any:
    """Return the table of a file of the right columns, whose footer promises no more than the limits.

    Raises:
        Mistake: if it has others, or too many rows.
    """
    source = pyarrow.BufferReader(body)
    footer = pyarrow.parquet.read_metadata(source)
    if not 0 < footer.num_rows <= limits["rows_max"]:
        raise Mistake([], f"Input should have 1 to {limits['rows_max']} rows")
    if footer.num_row_groups > ROW_GROUPS_MAX or footer.num_row_groups * footer.num_columns > CHUNKS_MAX:
        raise Mistake(
            [], f"Input should have at most {ROW_GROUPS_MAX} row groups, and {CHUNKS_MAX} columns in all of them"
        )
    schema = footer.schema.to_arrow_schema()
    # pandas keeps an index so, which is ignored as that of `dataframe_split` is.
    known = frozenset(limits["names"])
    names = [name for name in schema.names if name in known or not name.startswith("__index_level_")]
    if len({*names}) < len(names):
        raise Mistake([], "Input should have columns of different names")
    for name in names:
        if name not in known:
            raise Mistake([0, name], "Extra inputs are not permitted")
        if not _is_plain(pyarrow.types, schema.field(name).type):
            raise Mistake([0, name], "Input should be a column of numbers, texts or booleans")
    if sum(footer.row_group(at).total_byte_size for at in range(footer.num_row_groups)) > MEMORY_BYTES:
        raise Mistake([], f"Input should have at most {MEMORY_BYTES} bytes when it is unpacked")
    # A text that many rows have is kept once; otherwise each row would have its own.
    texts = [name for name in names if not _is_number(pyarrow.types, schema.field(name).type)]
    # Not `columns`, for which a name with a point is a path; the index is small.
    file = pyarrow.parquet.ParquetFile(source, metadata=footer, read_dictionary=texts, pre_buffer=False)
    table = file.read(use_threads=False)
    if table.num_rows != footer.num_rows or any(len(column) != table.num_rows for column in table.columns):
        raise Mistake([], NOT_READ)
    return table.select([table.column_names.index(name) for name in names])


def _is_number(types: Any, kind: Any) -> bool:
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind))


def _is_plain(types: Any, kind: Any) -> bool:
    if types.is_dictionary(kind):
        return _is_plain(types, kind.value_type)
    is_text = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    return is_text or bool(types.is_null(kind)) or _is_number(types, kind)


def _values(name: str, column: Any) -> list[Any]:
    """Return the values of a column.

    Raises:
        Mistake: if one is infinite, which JSON can't say, or no text in UTF-8.
    """
    try:
        values: list[Any] = column.to_pylist()
    except UnicodeDecodeError:
        raise Mistake([0, name], "Input should be text in UTF-8") from None
    for at, value in enumerate(values):
        if isinstance(value, float) and math.isinf(value):
            raise Mistake([at, name], "Input should be a finite number")
    return values


if __name__ == "__main__":
    main()
