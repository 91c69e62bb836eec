"""A TCP proxy that breaks the network between a process and the broker, with Toxiproxy's vocabulary."""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Container, Coroutine, Iterator
from dataclasses import dataclass, replace
from typing import Any

CHUNK_BYTES = 65_536
NO_LINGER = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Toxics:
    """The treatment of every chunk, in both directions; by default chunks pass unchanged."""

    latency_seconds: float = 0.0
    bandwidth_bytes_per_second: float | None = None
    slice_bytes: int | None = None
    slow_close_seconds: float = 0.0
    limit_data_bytes: int | None = None
    timeout: bool = False
    """True if no chunk passes while connections stay open."""


@dataclass(eq=False)
class _Link:
    """A client's connection, with its connection to the broker."""

    client: asyncio.StreamWriter
    broker: asyncio.StreamWriter
    half_open: bool = False
    passed_bytes: int = 0

    def close(self, reset: bool) -> None:
        for writer in (self.client, self.broker):
            if writer.is_closing():
                continue
            if reset:
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
                writer.transport.abort()
            else:
                writer.close()


class FaultProxy:
    """A proxy that listens on `port` and forwards to a port of this machine, in a thread of its own.

    Faults are context managers, or single events (`reset_peer`, `half_open`) that affect the present connections.
    """

    def __init__(self, port: int, to_port: int) -> None:
        self.port = port
        self._to_port = to_port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy {port}", daemon=True)
        self._server: asyncio.Server | None = None
        self._links: set[_Link] = set()
        self._toxics = Toxics()
        self._changed = asyncio.Event()

    def start(self) -> "FaultProxy":
        """Listen."""
        self._thread.start()
        self._run(self._listen())
        return self

    def close(self) -> None:
        """Close every connection and end the thread."""
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    @property
    def connections(self) -> int:
        """Number of connections that are passed on."""
        return len(self._links)

    @contextlib.contextmanager
    def with_toxics(self, **toxics: Any) -> Iterator[None]:
        """Apply toxics (the fields of `Toxics`) to all connections while the context lasts."""
        before = self._toxics
        self._set(replace(before, **toxics))
        try:
            yield
        finally:
            self._set(before)

    @contextlib.contextmanager
    def down(self) -> Iterator[None]:
        """Refuse new connections and drop the present ones."""
        self._run(self._stop_listening())
        try:
            yield
        finally:
            self._run(self._listen())

    def reset_peer(self) -> int:
        """Reset (RST) every connection; return how many there were."""
        cut: int = self._run(self._cut(lambda link: link.close(reset=True)))
        return cut

    def half_open(self, ports: Container[int] | None = None) -> int:
        """Silence the present connections for ever, with both ends unaware; new ones pass.

        With `ports`, only those that the broker sees coming from these ports. Return how many there were. Data that the
        broker writes into them is lost.
        """
        cut: int = self._run(self._cut(_silence, ports))
        return cut

    def heal(self) -> None:
        """Remove every toxic and close half-open connections."""
        self._set(Toxics())
        self._run(self._cut(lambda link: link.close(reset=True) if link.half_open else None))

    def _run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    def _set(self, toxics: Toxics) -> None:
        async def change() -> None:
            self._toxics = toxics
            changed, self._changed = self._changed, asyncio.Event()
            changed.set()

        self._run(change())

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)

    async def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        await self._cut(lambda link: link.close(reset=False))

    async def _close(self) -> None:
        await self._stop_listening()
        # A task that is cancelled before its first step would leave the connection open that it was to accept.
        await asyncio.sleep(0)
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # Transports close their connections in the next turn of the loop.
        await asyncio.sleep(0)

    async def _cut(self, event: Callable[[_Link], None], ports: Container[int] | None = None) -> int:
        links = [link for link in self._links if ports is None or link.broker.get_extra_info("sockname")[1] in ports]
        for link in links:
            event(link)
        return len(links)

    async def _accept(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        try:
            broker_reader, broker = await asyncio.open_connection("127.0.0.1", self._to_port)
        except (OSError, asyncio.CancelledError):
            client.transport.abort()
            return
        link = _Link(client, broker)
        self._links.add(link)
        try:
            # The task is cancelled when the proxy closes, which asyncio's streams would report.
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(self._pump(link, reader, broker), self._pump(link, broker_reader, client))
        finally:
            self._links.discard(link)
            link.close(reset=False)

    async def _pump(self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(CHUNK_BYTES):
                await self._pass(link, writer, chunk)
                limit = self._toxics.limit_data_bytes
                link.passed_bytes += len(chunk)
                if limit is not None and link.passed_bytes > limit:
                    break
            await asyncio.sleep(self._toxics.slow_close_seconds)
        await self._until_passing(link)
        # One end has closed, so the other is closed too.
        link.close(reset=False)

    async def _pass(self, link: _Link, writer: asyncio.StreamWriter, chunk: bytes) -> None:
        size = self._toxics.slice_bytes or len(chunk)
        for start in range(0, len(chunk), size):
            await self._until_passing(link)
            toxics, piece = self._toxics, chunk[start : start + size]
            rate = toxics.bandwidth_bytes_per_second
            seconds = toxics.latency_seconds + (len(piece) / rate if rate else 0.0)
            if seconds or toxics.slice_bytes:
                await asyncio.sleep(seconds)
            await self._until_passing(link)
            writer.write(piece)
            await writer.drain()

    async def _until_passing(self, link: _Link) -> None:
        while link.half_open or self._toxics.timeout:
            await self._changed.wait()


def _silence(link: _Link) -> None:
    link.half_open = True
