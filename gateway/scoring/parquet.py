"""Bodies in Parquet, as rows of a model."""

import asyncio
import os
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec

import orjson

from gateway.catalog.row_parser import RowParser
from gateway.errors import DeadlineExceeded, InvalidRows
from gateway.fairness.turns import OwnerTurns
from gateway.problems import Problem
from gateway.scoring import parquet_process
from headrace.models.manifest import Feature
from shared.queue.contract import Row

PARQUET = (b"application/vnd.apache.parquet", b"application/x-parquet")

UNPACKED_TIMES = 4
"""Longest columns of a file as JSON, in lengths of the longest body: a number takes twice the bytes, or more."""


class ParquetReader:
    """A reader of Parquet files, one at a time, where pyarrow is installed. A process of its own reads each."""

    def __init__(self) -> None:
        self._turns = OwnerTurns()

    async def columns(
        self, body: bytes, features: Sequence[Feature], parser: RowParser, bytes_max: int, owner: str, seconds: float
    ) -> bytes:
        """Return the columns of a file as JSON, which `read_columns` reads.

        Args:
            body: the file.
            features: the model's features.
            parser: the parser of the model's rows.
            bytes_max: length of the longest columns.
            owner: the owner of the API key.
            seconds: time until which the columns are of use.

        Raises:
            Problem: 415 if pyarrow is not installed.
            InvalidRows: if it is no Parquet file, or one that needs too much memory or time.
            Overloaded: if its turn does not come in time.
            DeadlineExceeded: if it is not read in time.
        """
        if find_spec("pyarrow") is None:
            raise Problem(415, "unsupported_media_type", "this gateway has no pyarrow, which reads Parquet: send JSON")
        limits = parquet_process.Limits(
            names=[feature.name for feature in features], rows_max=parser.rows_max, bytes_max=bytes_max
        )
        asked_at = time.perf_counter()
        async with self._turns.of(owner, seconds):
            left_seconds = seconds - (time.perf_counter() - asked_at)
            try:
                output = await asyncio.wait_for(_read(orjson.dumps(limits) + b"\n", body), left_seconds)
            except asyncio.TimeoutError:
                raise DeadlineExceeded(seconds) from None
        if output is None:
            raise InvalidRows([((), "Input should be a Parquet file that is read with little memory and time")])
        return output


async def _read(limits: bytes, body: bytes) -> bytes | None:
    """Return the output of the process; None if it failed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        parquet_process.__name__,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        # Its last words may quote the file.
        stderr=asyncio.subprocess.DEVNULL,
        # Arrow's own pools reserve more memory than the process may have.
        env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "ARROW_DEFAULT_MEMORY_POOL": "system"},
    )
    try:
        output, _ = await process.communicate(limits + body)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return output if process.returncode == 0 else None


def read_columns(columns: bytes, features: Sequence[Feature], parser: RowParser) -> list[Row]:
    """Return the rows of the columns of a file.

    Raises:
        InvalidRows: if they are not rows of the model.
    """
    content = orjson.loads(columns)
    if "mistakes" in content:
        raise InvalidRows(content["mistakes"])
    return parser.rows_of(content["columns"], content["rows"])
