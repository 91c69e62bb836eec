"""The wheel as other people install it: into a clean environment, beside packages with the names of the service's."""

import os
import re
import shutil
import subprocess
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from scripts.environment import base_python, create
from tests.support.processes import REPOSITORY
from tests.support.requirements import require

# The libraries are installed anew.
pytestmark = pytest.mark.timeout(600)

PACKAGES = ("headrace", "shared", "gateway", "worker", "training")

PROGRAM = """
import numpy as np
from sklearn.linear_model import LogisticRegression

from headrace import Client, HeadraceError, export
from shared import MINE
from training import MINE
from worker import MINE

rows = np.random.default_rng(0).normal(size=(40, 2))
targets = np.where(rows[:, 0] > 0, "up", "down")
print(repr(export(LogisticRegression().fit(rows, targets), rows, targets, name="mine", version="v1")))
with Client("http://127.0.0.1:1", timeout=5) as client:
    try:
        client.predict({"x0": 1.0, "x1": 2.0})
    except HeadraceError as error:
        print(type(error).__name__)
"""


@dataclass(frozen=True)
class Environment:
    """A clean environment, and the folder of a project that uses it."""

    bin: Path
    project: Path
    install: list[str]

    def run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment in the project."""
        environment = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ}
        environment |= {"PATH": f"{self.bin}:/usr/bin:/bin", "PYTHONWARNINGS": "error", "NO_PROXY": "127.0.0.1"}
        return subprocess.run(
            [self.bin / program, *arguments],
            cwd=self.project,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def distributions(self) -> set[str]:
        """Return the names of the installed distributions."""
        code = "from importlib.metadata import distributions; print(*[each.name for each in distributions()])"
        return set(self.run("python", "-c", code).stdout.split())


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An empty environment, and a project with packages of its own."""
    folder, project = tmp_path_factory.mktemp("clean") / "venv", tmp_path_factory.mktemp("project")
    # Python compiles what the test imports, which is a part of what is installed.
    install = [*create(folder, base_python()), "--no-compile"]
    for package in ("shared", "gateway", "worker", "training"):
        (project / package).mkdir()
        (project / package / "__init__.py").write_text("MINE = True\n")
    (project / "program.py").write_text(PROGRAM)
    return Environment(folder / "bin", project, install)


@pytest.fixture(scope="module")
def wheel(environment: Environment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the repository: a build leaves folders behind."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    pip = environment.install[: environment.install.index("install")]
    reached = subprocess.run(
        [*pip, "download", "--no-deps", "--dest", str(source), "orjson"], check=False, capture_output=True, text=True
    )
    require(reached.returncode == 0, f"pip can't fetch packages here: {reached.stderr.strip()[-300:]}")
    for package in PACKAGES:
        shutil.copytree(REPOSITORY / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / file, source)
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", str(target), str(source)], check=True)
    [built] = target.iterdir()
    return built


def test_the_wheel_contains_the_sdk_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()

    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {"headrace"}
    assert "headrace/py.typed" in names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_it_works_beside_packages_of_the_same_names(wheel: Path, environment: Environment) -> None:
    subprocess.run([*environment.install, str(wheel)], check=True)
    installed = environment.distributions()
    assert {"headrace", "pydantic", "httpx"} <= installed
    assert installed & {"celery", "kombu", "redis", "fastapi", "uvicorn", "scikit-learn", "numpy"} == set()

    missing = environment.run("headrace", "verify", "--store", ".")
    assert (missing.returncode, missing.stderr.count("\n")) == (2, 1)
    assert "in the extra 'export'" in missing.stderr

    unreachable = environment.run("headrace", "predict", "x=1", "--url", "http://127.0.0.1:1")
    assert (unreachable.returncode, unreachable.stderr.count("\n")) == (4, 1)

    subprocess.run([*environment.install, f"{wheel}[export]"], check=True)
    ran = environment.run("python", "program.py")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.splitlines() == [
        "Exported('mine', version='v1', alias='latest', location='models/mine/v1', new_store=True)",
        "GatewayUnreachable",
    ]

    listed = environment.run("headrace", "list")
    assert (listed.returncode, listed.stderr) == (0, "")
    assert listed.stdout.splitlines()[1].split()[:3] == ["mine", "v1", "latest"]
    verified = environment.run("headrace", "verify")
    assert re.fullmatch(r"mine v1 is intact and predicts \d+ rows as at its export\n", verified.stdout), verified.stderr
    trained = environment.run("headrace", "train")
    assert (trained.returncode, trained.stderr.count("\n")) == (2, 1)
    assert "runs where the service is" in trained.stderr
