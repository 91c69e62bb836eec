"""The commands for callers, as programs, against real processes."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.conftest import NewStack
from tests.support.api_keys import new_key
from tests.support.processes import REPOSITORY, free_port, python
from tests.support.puppet import Act
from tests.support.stack import Stack

HIGH = ("value=1", f"act={Act.ANSWER:d}")

COMMAND = python("headrace")


@dataclass(frozen=True)
class Caller:
    """A caller of a gateway, in a shell."""

    settings: dict[str, str]

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        return {**kept, "PYTHONWARNINGS": "error", "NO_PROXY": "127.0.0.1", **self.settings}

    def run(self, *arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command with this standard input."""
        return subprocess.run(
            [*COMMAND, *arguments],
            cwd=REPOSITORY,
            env=self.environment,
            input=text,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def output(self, *arguments: str, text: str = "") -> str:
        """Run a command that succeeds, and return what it prints."""
        ran = self.run(*arguments, text=text)
        assert (ran.returncode, ran.stderr) == (0, ""), ran
        return ran.stdout


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """API keys by owner, and the file of them."""
    path = tmp_path_factory.mktemp("keys") / "api-keys"
    alice = new_key(path, "alice", "--scope", "predict", "--scope", "jobs", "--scope", "read")
    bob = new_key(path, "bob", "--scope", "predict")
    key_of = {name: caller["Authorization"].split()[1] for name, caller in (("alice", alice), ("bob", bob))}
    return {**key_of, "file": str(path)}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, puppet_models: Path, keys: dict[str, str]) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("stack")
    stack = Stack(folder, puppet_models, DEFAULT_MODEL="puppet", ROWS_MAX="700", API_KEYS_FILE=keys["file"])
    try:
        yield stack.start()
    finally:
        stack.close()


@pytest.fixture
def alice(stack: Stack, keys: dict[str, str]) -> Caller:
    return Caller({"HEADRACE_URL": stack.url, "HEADRACE_API_KEY": keys["alice"]})


def rows(number: int) -> str:
    """Return so many rows of CSV, whose values change their sign with every row."""
    return "act,value\n" + "".join(f"{Act.ANSWER:d},{(-1) ** at}\n" for at in range(number))


def test_a_row_is_predicted(alice: Caller) -> None:
    prediction, *shares, about = alice.output("predict", "--deadline", "30", *HIGH).splitlines()
    assert prediction == "high"
    assert [line.split() for line in shares] == [["high", "1"], ["low", "0"]]
    assert re.fullmatch(r"puppet \S+, [\d.e+]+ ms", about)

    answer = json.loads(alice.output("predict", "puppet", "--version", "latest", "value=-1", "act=0", "--json"))
    assert (answer["prediction"], answer["probabilities"]["low"]) == ("low", 1.0)


def test_rows_come_through_a_pipe_in_their_order(alice: Caller) -> None:
    # The gateway takes 700 rows in a request.
    lines = alice.output("predict", "--file", "-", "--format", "csv", "--json", text=rows(2500)).splitlines()

    assert [json.loads(line)["prediction"] for line in lines] == ["high", "low"] * 1250


def test_a_reader_that_ends_first_ends_the_command_quietly(alice: Caller, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(rows(5000))
    with subprocess.Popen(
        [*COMMAND, "predict", "--file", str(path), "--json"],
        cwd=REPOSITORY,
        env=alice.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        assert json.loads(process.stdout.readline())["prediction"] == "high"
        process.stdout.close()
        errors = process.stderr.read()

    assert (process.returncode, errors) == (141, "")


def test_a_full_disk_is_one_line(alice: Caller) -> None:
    with Path("/dev/full").open("w") as full:
        ran = subprocess.run(
            [*COMMAND, "models"],
            cwd=REPOSITORY,
            env=alice.environment,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
            check=False,
        )

    assert (ran.returncode, ran.stderr) == (1, "headrace: No space left on device\n")


def test_a_job_is_submitted_and_waited_for(alice: Caller, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(rows(4))
    predictions = ["PREDICTION  PROBABILITY", *["high        1", "low         1"] * 2]
    assert alice.output("submit", "--wait", "--file", str(path)).splitlines() == predictions

    key = ("--idempotency-key", "command-line")
    [job] = alice.output("submit", "puppet", "--file", str(path), *key).splitlines()
    assert alice.output("submit", "puppet", "--file", str(path), *key).splitlines() == [job]
    assert alice.output("wait", job, "--timeout", "60").splitlines() == predictions

    shown = [line.split() for line in alice.output("job", job).splitlines()]
    assert [["id", job], ["status", "succeeded"]] == shown[:2]
    listed = [json.loads(line)["id"] for line in alice.output("jobs", "--json").splitlines()]
    assert listed[0] == job and len(listed) >= 2
    assert job in alice.output("jobs", "--status", "succeeded", "--model", "puppet", "--since", "2026-01-01").split()
    assert len(alice.output("jobs", "--limit", "1").splitlines()) == 2

    ended = alice.run("cancel", job)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert alice.output("wait", job).splitlines() == predictions, "its result stays"


def test_a_job_that_fails_says_so(alice: Caller) -> None:
    failed = alice.run("submit", "--wait", "value=1", f"act={Act.RAISE:d}")
    assert (failed.returncode, failed.stdout) == (6, "")
    assert "is failed: row_rejected: " in failed.stderr

    refused = alice.run("predict", "value=1", f"act={Act.RAISE:d}", "--json")
    problem = json.loads(refused.stderr)
    assert (refused.returncode, problem["status"], problem["rows"]) == (2, 422, [0])


def test_models_are_listed_and_described(alice: Caller) -> None:
    [heading, line] = alice.output("models").splitlines()
    assert heading.split() == ["MODEL", "ALIASES"]
    assert line.split()[:2] == ["puppet", "latest"] and line.endswith("  default")

    described = alice.output("describe", "puppet").splitlines()
    assert described[0].startswith("puppet ") and described[-2].split()[:2] == ["value", "number"]
    assert json.loads(alice.output("describe", "puppet", "--version", "latest", "--json"))["name"] == "puppet"
    assert "    value: float\n" in alice.output("client-types", "puppet")
    assert "status     ok" in alice.output("health").splitlines()


def test_refusals_have_exit_codes(alice: Caller, stack: Stack, keys: dict[str, str], tmp_path: Path) -> None:
    unknown = alice.run("describe", "tulip\x1b[2J")
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert unknown.stderr.startswith("headrace: 404 unknown_model: ")
    assert alice.run("predict", "tulip", *HIGH).returncode == 2
    assert alice.run("wait", "no-such-job").returncode == 2
    bad = alice.run("predict", "value=1", "act=\x1b[2J")
    assert (bad.returncode, bad.stderr) == (2, "headrace: row 1, column 'act': '\\x1b[2J' is no number\n")
    late = alice.run("predict", "value=5", f"act={Act.SLEEP:d}", "--deadline", "0.2")
    assert (late.returncode, late.stdout) == (5, "")

    wrong = tmp_path / "wrong.key"
    wrong.write_text("hr_0000000000000000000000\n")
    assert alice.run("models", "--key-file", str(wrong)).returncode == 3
    assert Caller({"HEADRACE_URL": stack.url}).run("models").returncode == 3
    dead = alice.run("health", "--url", f"http://127.0.0.1:{free_port()}")
    assert (dead.returncode, dead.stdout, dead.stderr.count("\n")) == (4, "", 1)

    # This key may only predict: it can't read the types of the features.
    bob = Caller({"HEADRACE_URL": stack.url, "HEADRACE_API_KEY": keys["bob"]})
    assert bob.output("predict", *HIGH).startswith("high\n")
    assert bob.run("predict", "--file", "-", "--format", "csv", text=rows(1)).returncode == 2
    assert bob.run("jobs").returncode == 3


def test_a_profile_names_the_gateway_and_its_key(stack: Stack, keys: dict[str, str], tmp_path: Path) -> None:
    pytest.importorskip("tomllib")
    profiles = tmp_path / "headrace" / "profiles.toml"
    profiles.parent.mkdir()
    profiles.touch(mode=0o600)
    profiles.write_text(f'[test]\nurl = "{stack.url}"\nkey = "{keys["alice"]}"\n')
    caller = Caller({"XDG_CONFIG_HOME": str(tmp_path)})

    assert caller.output("predict", "--profile", "test", *HIGH).startswith("high\n")


def test_a_job_that_no_worker_takes_is_late_and_can_be_cancelled(new_stack: NewStack, puppet_models: Path) -> None:
    stack = new_stack(puppet_models, DEFAULT_MODEL="puppet").start_without_workers()
    caller = Caller({"HEADRACE_URL": stack.url})
    health = caller.run("health")
    assert (health.returncode, health.stderr) == (4, "") and health.stdout.startswith("status     unavailable\n")
    [job] = caller.output("submit", *HIGH).splitlines()

    late = caller.run("wait", job, "--timeout", "0.2")
    assert (late.returncode, late.stdout) == (5, "") and "is queued after 0.2 s" in late.stderr
    assert caller.output("cancel", job) == f"job {job} is cancelled\n"
    cancelled = caller.run("wait", job)
    assert (cancelled.returncode, cancelled.stdout) == (7, "") and "is cancelled" in cancelled.stderr
    waited = caller.run("submit", "--wait", "--timeout", "0.2", *HIGH, "--json")
    problem = json.loads(waited.stderr)
    assert (waited.returncode, problem["exit_code"], len(problem["jobs"])) == (5, 5, 1)
    refused = caller.run("predict", "--retries", "0", *HIGH)
    assert refused.returncode == 4 and "503 no_worker" in refused.stderr
