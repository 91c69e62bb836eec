"""A supervisor of programs, which starts them in order and ends them in the reverse order.

If one ends by itself, the supervisor ends all, or starts that one again.

Honcho is no alternative: it ends all at once and kills after 5 s, but a worker needs its broker until it has handed
back the batches that it could not finish.
"""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from headrace.terminal import escaped

COLOURS = (36, 33, 32, 35, 34, 31)
"""ANSI foregrounds of the prefixes: cyan, yellow, green, magenta, blue, red."""

SETTLED_SECONDS = 30.0
"""A program that ends by itself within this time would do so again, because of wrong settings or a wrong model."""

STOP_WAIT_SECONDS = 40.0
"""Time for a program to end: a worker lets a batch finish for 20 s, and then hands back the others."""

Ready = Callable[[], Awaitable[None]]


def read_procfile(path: Path) -> dict[str, str]:
    """Return name and command, in the order of the file."""
    lines = (line.strip() for line in path.read_text().splitlines())
    entries = (line.partition(":") for line in lines if line and not line.startswith("#"))
    return {name.strip(): command.strip() for name, _, command in entries}


@dataclass(frozen=True)
class Program:
    """A command for the shell, and the variables that it has in its environment beside ours."""

    name: str
    command: str
    environment: Mapping[str, str] = field(default_factory=dict)
    ready: Ready | None = None
    """A function that is awaited before the next program starts."""
    again: bool = False
    """True to start it again if it ends by itself, once it has run for a while; otherwise all end with it."""

    @property
    def kind(self) -> str:
        """The name without its number, `worker` for `worker.2`: programs of a kind end together."""
        return self.name.partition(".")[0]


class Supervisor:
    """The owner of the programs' processes and of their output."""

    def __init__(
        self,
        programs: list[Program],
        out: TextIO = sys.stdout,
        stop_wait_seconds: float = STOP_WAIT_SECONDS,
        settled_seconds: float = SETTLED_SECONDS,
    ):
        self._programs = programs
        self._out = out
        self._stop_wait_seconds = stop_wait_seconds
        self._settled_seconds = settled_seconds
        self._width = max((len(program.name) for program in programs), default=0)
        self._colours = out.isatty() and "NO_COLOR" not in os.environ
        self._running: dict[str, Process] = {}
        self._watchers: list[asyncio.Task[None]] = []
        self._ending = asyncio.Event()
        self._hurry = asyncio.Event()
        self._failure: str | None = None

    async def run(self, announce: Ready | None = None) -> int:
        """Run until a signal (exit code 0) or until a program ends by itself (1); `announce` runs beside them."""
        self._catch_signals()
        work = asyncio.create_task(self._start_all(announce))
        work.add_done_callback(lambda task: self._ending.set() if task.exception() else None)
        await self._ending.wait()
        try:
            await work
        finally:
            await self._stop_all()
        if self._failure:
            self.say(self._failure)
        return 1 if self._failure else 0

    def say(self, text: str) -> None:
        """Print a line of our own between those of the programs."""
        self.write(f"headrace: {text}\n")

    def write(self, text: str) -> None:
        """Print whole lines."""
        try:
            self._out.write(text)
            self._out.flush()
        except OSError:
            # The terminal or the pipe is gone, so no person can stop us.
            self._ending.set()

    def _catch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, self._signalled)
        loop.add_signal_handler(signal.SIGTERM, self._signalled)
        # Under nohup, SIGHUP is ignored on purpose.
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            loop.add_signal_handler(signal.SIGHUP, self._signalled)

    def _signalled(self) -> None:
        # At the second Ctrl-C, the programs are killed.
        (self._hurry if self._ending.is_set() else self._ending).set()

    async def _start_all(self, announce: Ready | None) -> None:
        for number, program in enumerate(self._programs):
            if self._ending.is_set():
                return
            process, output = await self._start(program)
            watch = self._watch(program, process, output, COLOURS[number % len(COLOURS)])
            self._watchers.append(asyncio.create_task(watch))
            await self._unless_ending(program.ready)
        await self._unless_ending(announce)

    async def _unless_ending(self, ready: Ready | None) -> None:
        if ready is None:
            return
        task, ending = asyncio.ensure_future(ready()), asyncio.create_task(self._ending.wait())
        await asyncio.wait({task, ending}, return_when=asyncio.FIRST_COMPLETED)
        ending.cancel()
        if task.done():
            task.result()
        task.cancel()

    async def _start(self, program: Program) -> tuple[Process, int]:
        """Return the process, and the file descriptor of its output."""
        # Not asyncio's own pipe: with it, `wait` waits for every grandchild that holds the other end too.
        read_end, write_end = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                "/bin/sh",
                "-c",
                # Without exec the shell would stay as the parent, and end at a signal before its child does.
                f"exec {program.command}",
                stdin=DEVNULL,
                stdout=write_end,
                stderr=write_end,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **program.environment},
                # Ctrl-C reaches the whole foreground group; programs in sessions of their own don't get it.
                start_new_session=True,
            )
        finally:
            os.close(write_end)
        self._running[program.name] = process
        return process, read_end

    async def _watch(self, program: Program, process: Process, output: int, colour: int) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            started_at = clock()
            code = await self._until_its_end(program, process, output, colour)
            if self._ending.is_set():
                return
            if not program.again or clock() - started_at < self._settled_seconds:
                break
            self.say(f"{program.name} ended by itself ({_describe(code)}), and is started again")
            process, output = await self._start(program)
            if self._ending.is_set():
                process.terminate()
        self._failure = f"{program.name} ended by itself ({_describe(code)}); everything was stopped"
        self._ending.set()

    async def _until_its_end(self, program: Program, process: Process, output: int, colour: int) -> int:
        """Pass on the output of a process until it has ended, and return its exit code."""
        relay = asyncio.create_task(self._relay(program.name, output, colour))
        code = await process.wait()
        # Children that it left behind hold its ports and our end of the pipe.
        _kill_group(process.pid)
        with suppress(asyncio.TimeoutError):
            # A process that left the group may still hold the pipe.
            await asyncio.wait_for(relay, timeout=2)
        del self._running[program.name]
        return code

    async def _relay(self, name: str, output: int, colour: int) -> None:
        """Pass on the output of a program line by line; `readline` would raise at a very long line."""
        prefix = f"{name:<{self._width}} | "
        if self._colours:
            prefix = f"\x1b[{colour}m{prefix}\x1b[0m"
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(output, "rb", buffering=0)
        )
        rest = b""
        try:
            while chunk := await reader.read(65536):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    self.write(f"{prefix}{escaped(line.decode(errors='replace'))}\n")
            if rest:
                self.write(f"{prefix}{escaped(rest.decode(errors='replace'))}\n")
        finally:
            transport.close()

    async def _stop_all(self) -> None:
        self._ending.set()
        kinds = dict.fromkeys(program.kind for program in reversed(self._programs))
        for kind in kinds:
            names = [program.name for program in self._programs if program.kind == kind]
            await self._stop([name for name in names if name in self._running])
        await asyncio.gather(*self._watchers)

    async def _stop(self, names: list[str]) -> None:
        processes = {name: self._running[name] for name in names}
        for name, process in processes.items():
            self.say(f"stopping {name}")
            with suppress(ProcessLookupError):
                process.terminate()
        ends = {asyncio.create_task(process.wait()) for process in processes.values()}
        hurry = asyncio.create_task(self._hurry.wait())
        deadline = asyncio.get_running_loop().time() + self._stop_wait_seconds
        while ends and not self._hurry.is_set() and asyncio.get_running_loop().time() < deadline:
            timeout = deadline - asyncio.get_running_loop().time()
            done, _ = await asyncio.wait({*ends, hurry}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            ends -= done
        hurry.cancel()
        for name, process in processes.items():
            if process.returncode is None:
                self.say(f"killing {name}" + ("" if self._hurry.is_set() else ", which did not end in time"))
                _kill_group(process.pid)
        await asyncio.gather(*ends)


def _kill_group(group: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def _describe(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
