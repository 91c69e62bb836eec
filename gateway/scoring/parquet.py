"""Bodies in Parquet, as rows of a model."""

import asyncio
import os
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec

import orjson

from gateway.catalog.row_parser import RowParser
from gateway.errors import DeadlineExceeded, InvalidRows, Overloaded
from gateway.fairness.turns import TRY_AGAIN_SECONDS, OwnerTurns
from gateway.problems import Problem
from gateway.scoring import parquet_process
from headrace.models.manifest import Feature
from shared.queue.contract import Row

PARQUET = (b"application/vnd.apache.parquet", b"application/x-parquet")

UNPACKED_TIMES = 4
"""Longest columns of a file as JSON, in lengths of the longest body: a number takes twice the bytes, or more."""


SHARE_SECONDS = 3.0
"""Time after which a file is given up if another owner waits: longer than its computing where a core is free for it."""

CHECK_SECONDS = 0.5


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
            Overloaded: if its turn does not come in time, or it takes long while another owner waits.
            DeadlineExceeded: if it is not read in time.
        """
        if find_spec("pyarrow") is None:
            raise Problem(415, "unsupported_media_type", "this gateway has no pyarrow, which reads Parquet: send JSON")
        limits = parquet_process.Limits(
            names=[feature.name for feature in features], rows_max=parser.rows_max, bytes_max=bytes_max
        )
        ends_at = time.perf_counter() + seconds
        async with self._turns.of(owner, seconds):
            reading = asyncio.ensure_future(_read(orjson.dumps(limits) + b"\n", body))
            try:
                await self._done(reading, owner, ends_at)
            except asyncio.TimeoutError:
                raise DeadlineExceeded(seconds) from None
            finally:
                # The process has ended before the next one begins.
                reading.cancel()
                await asyncio.wait([reading])
            output = reading.result()
        if output is None:
            raise InvalidRows([((), "Input should be a Parquet file that is read with little memory and time")])
        return output

    async def _done(self, reading: "asyncio.Future[bytes | None]", owner: str, ends_at: float) -> None:
        share_ends_at = time.perf_counter() + SHARE_SECONDS
        while not reading.done():
            now = time.perf_counter()
            if now >= ends_at:
                raise asyncio.TimeoutError
            if now >= share_ends_at and self._turns.others_wait(owner):
                raise Overloaded("the file takes long, and others wait for their turn", TRY_AGAIN_SECONDS)
            await asyncio.wait([reading], timeout=min(CHECK_SECONDS, ends_at - now))


async def _read(limits: bytes, body: bytes) -> bytes | None:
    """Return the output of the process; None if it failed."""
    starting = asyncio.ensure_future(_start())
    try:
        # Of a process that is cancelled while it starts, asyncio would wait for the end of its pipes for ever.
        await asyncio.shield(starting)
        output, _ = await starting.result().communicate(limits + body)
    finally:
        process = await starting
        if process.returncode is None:
            process.kill()
            await process.wait()
    return output if process.returncode == 0 else None


async def _start() -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
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


def read_columns(columns: bytes, features: Sequence[Feature], parser: RowParser) -> Sequence[Row]:
    """Return the rows of the columns of a file.

    Raises:
        InvalidRows: if they are not rows of the model.
    """
    content = orjson.loads(columns)
    if "mistakes" in content:
        raise InvalidRows(content["mistakes"])
    return parser.rows_of(content["columns"], content["rows"])
