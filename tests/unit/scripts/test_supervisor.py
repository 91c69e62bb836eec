import asyncio
import io
import os
import shlex
import signal
import sys
import time
from pathlib import Path

import pytest

from scripts.supervisor import Program, Supervisor, read_procfile
from tests.unit.scripts.conftest import DEADLINE_SECONDS, Fakes


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


async def interrupt_now() -> None:
    interrupt()


def program(fakes: Fakes, name: str, behaviour: str = "") -> Program:
    return Program(name, fakes.command(name, behaviour), ready=fakes.logged(f"{name} up"))


def run(supervisor: Supervisor, announce: object = interrupt_now) -> int:
    return asyncio.run(supervisor.run(announce))  # type: ignore[arg-type]


def test_starts_in_order_and_ends_in_the_reverse(fakes: Fakes) -> None:
    names = ["broker", "worker.1", "worker.2", "gateway"]

    assert run(Supervisor([program(fakes, name) for name in names], io.StringIO())) == 0

    assert fakes.log[:5] == [*(f"{name} up" for name in names), "gateway down"]
    assert sorted(fakes.log[5:7]) == ["worker.1 down", "worker.2 down"]
    assert fakes.log[7:] == ["broker down"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_signals_end_it_too(fakes: Fakes, number: signal.Signals) -> None:
    async def announce() -> None:
        os.kill(os.getpid(), number)

    # The tests themselves may run under nohup.
    signal.signal(number, signal.SIG_DFL)
    assert run(Supervisor([program(fakes, "broker")], io.StringIO()), announce) == 0
    assert fakes.log == ["broker up", "broker down"]


def test_all_end_when_one_ends_by_itself(fakes: Fakes) -> None:
    out = io.StringIO()
    programs = [
        program(fakes, "broker"),
        program(fakes, "worker", "dies"),
        Program("gateway", fakes.command("gateway")),
    ]

    assert run(Supervisor(programs, out), fakes.logged("never")) == 1

    assert fakes.log[-1] == "broker down"
    assert "headrace: worker ended by itself (exit code 3); everything was stopped" in out.getvalue()


def test_one_that_had_settled_is_started_again(fakes: Fakes) -> None:
    out = io.StringIO()
    programs = [program(fakes, "broker"), Program("worker", fakes.command("worker", "dies once"), again=True)]

    async def announce() -> None:
        await fakes.logged("worker up", times=2)()
        interrupt()

    assert run(Supervisor(programs, out, settled_seconds=0), announce) == 0

    assert "headrace: worker ended by itself (exit code 3), and is started again\n" in out.getvalue()
    assert fakes.log == ["broker up", "worker up", "worker up", "worker down", "broker down"]


def test_one_that_ends_at_once_is_not_started_again(fakes: Fakes) -> None:
    out = io.StringIO()

    supervisor = Supervisor([Program("worker", fakes.command("worker", "dies"), again=True)], out)

    assert run(supervisor, fakes.logged("never")) == 1
    assert fakes.log == ["worker up"]
    assert "worker ended by itself (exit code 3); everything was stopped" in out.getvalue()


def test_an_interrupt_while_one_is_started_again_ends_all(fakes: Fakes) -> None:
    class Out(io.StringIO):
        def write(self, text: str) -> int:
            if text.endswith("and is started again\n"):
                interrupt()
            return super().write(text)

    programs = [program(fakes, "broker"), Program("worker", fakes.command("worker", "dies once"), again=True)]

    assert run(Supervisor(programs, Out(), settled_seconds=0), fakes.logged("never")) == 0
    assert fakes.log[-1] == "broker down"


def test_a_program_that_is_missing_is_named(fakes: Fakes) -> None:
    out = io.StringIO()

    assert run(Supervisor([Program("broker", "no-such-program --port 1")], out), fakes.logged("never")) == 1

    assert "broker ended by itself (exit code 127)" in out.getvalue()


def test_what_does_not_end_is_killed(fakes: Fakes) -> None:
    out = io.StringIO()
    programs = [program(fakes, "broker"), program(fakes, "worker", "stubborn")]

    assert run(Supervisor(programs, out, stop_wait_seconds=0.2)) == 0

    assert "killing worker, which did not end in time" in out.getvalue()
    assert fakes.log[-2:] == ["worker down", "broker down"]


def test_a_second_interrupt_kills_at_once(fakes: Fakes) -> None:
    async def announce() -> None:
        interrupt()
        await fakes.logged("worker down")()

    class Out(io.StringIO):
        def write(self, text: str) -> int:
            if text == "headrace: stopping worker\n":
                asyncio.get_running_loop().call_soon(interrupt)
            return super().write(text)

    out, started = Out(), time.monotonic()
    programs = [program(fakes, "broker"), program(fakes, "worker", "stubborn")]

    assert run(Supervisor(programs, out, stop_wait_seconds=DEADLINE_SECONDS), announce) == 0

    assert time.monotonic() - started < DEADLINE_SECONDS
    assert "headrace: killing worker\n" in out.getvalue()


def test_an_interrupt_is_heard_while_a_program_is_not_ready(fakes: Fakes) -> None:
    async def never() -> None:
        await fakes.logged("broker up")()
        interrupt()
        await asyncio.Event().wait()

    programs = [Program("broker", fakes.command("broker"), ready=never), program(fakes, "worker")]

    assert run(Supervisor(programs, io.StringIO()), fakes.logged("never")) == 0
    assert fakes.log == ["broker up", "broker down"]


def test_an_error_while_starting_ends_all(fakes: Fakes) -> None:
    async def fail() -> None:
        await fakes.logged("broker up")()
        raise LookupError("not today")

    with pytest.raises(LookupError, match="not today"):
        run(Supervisor([Program("broker", fakes.command("broker"), ready=fail)], io.StringIO()))
    assert fakes.log == ["broker up", "broker down"]


def test_children_of_a_program_end_with_it(fakes: Fakes, tmp_path: Path) -> None:
    """The pool children of a killed worker are in this position."""
    child = fakes.command("child", "stubborn")
    parent = f"import os, subprocess, sys; subprocess.Popen({shlex.split(child)!r}); os.kill(os.getpid(), 9)"
    out = io.StringIO()

    code = run(Supervisor([Program("worker", shlex.join([sys.executable, "-c", parent]))], out), fakes.logged("never"))

    assert code == 1
    assert "worker ended by itself (signal SIGKILL)" in out.getvalue()
    assert not running(str(tmp_path / "log"))


def running(argument: str) -> bool:
    """Return True if a process has this argument."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    found = True
    while found and time.monotonic() < deadline:
        found = any(argument.encode() in command_line(folder).split(b"\0") for folder in Path("/proc").glob("[0-9]*"))
    return found


def command_line(folder: Path) -> bytes:
    try:
        return (folder / "cmdline").read_bytes()
    except OSError:
        return b""


def test_output_gets_a_prefix(fakes: Fakes) -> None:
    out = io.StringIO()
    code = "import sys; sys.stdout.buffer.write(b'one\\n\\x1b[2Jtw\\xff\\n' + b'x' * 200_000 + b'\\nno newline')"

    run(Supervisor([Program("gateway", shlex.join([sys.executable, "-c", code]))], out), fakes.logged("never"))

    assert out.getvalue().splitlines()[:4] == [
        "gateway | one",
        "gateway | \\x1b[2Jtw�",
        "gateway | " + "x" * 200_000,
        "gateway | no newline",
    ]


def test_it_ends_when_nobody_can_read_it(fakes: Fakes) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    code = "print('hello', flush=True); import signal; signal.pause()"
    programs = [program(fakes, "broker"), Program("gateway", shlex.join([sys.executable, "-c", code]))]

    assert run(Supervisor(programs, Gone()), fakes.logged("never")) == 0
    assert fakes.log == ["broker up", "broker down"]


def test_procfile_starts_the_broker_first() -> None:
    programs = read_procfile(Path("Procfile"))

    assert list(programs) == ["broker", "exporter", "worker", "gateway", "grpc", "prometheus"]
    assert programs["worker"] == "python -m worker"
    assert "--appendonly yes" in programs["broker"]
