"""The commands and programs of the README and the guide, run against a stack."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import NewStack
from tests.support.processes import REPOSITORY
from tests.support.requirements import require
from tests.support.stack import Stack

README = (REPOSITORY / "README.md").read_text()
GUIDE = (REPOSITORY / "docs/bring-your-own-model.md").read_text()
COMMANDS = re.findall(r"^\$ (curl .*)\n(.*)$", README, re.MULTILINE)
ADDRESS = "http://127.0.0.1:8000"
JOB_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def block(language: str, containing: str) -> str:
    """Return the block of the guide that holds a text."""
    blocks: list[str] = re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)
    (found,) = [each for each in blocks if re.search(containing, each)]
    return found


def keys(value: Any) -> Any:
    """Return the shape of a JSON value: its keys, without the values."""
    return {name: keys(inner) for name, inner in value.items()} if isinstance(value, dict) else None


def test_the_curl_lines_answer_as_shown(stack: Stack) -> None:
    require(shutil.which("curl") is not None, "curl is not installed")
    assert len(COMMANDS) == 3
    job_id = ""
    for command, shown in COMMANDS:
        line = JOB_ID.sub(job_id, command.replace(ADDRESS, stack.url))
        ran = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True, timeout=60)
        answer = json.loads(ran.stdout)
        job_id = answer.get("id", job_id)
        if "…" not in shown:
            assert keys(answer) == keys(json.loads(shown))
        for label in ("setosa", "virginica", "queued", "succeeded"):
            if f'"prediction":"{label}"' in shown or f'"status":"{label}"' in shown:
                assert f'"{label}"' in ran.stdout


def test_your_own_model(new_stack: NewStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MODEL_STORE", raising=False)
    scope: dict[str, Any] = {}
    exec(code, scope)
    stack = new_stack(tmp_path / "models", DEFAULT_MODEL="wine").start()
    wine, forest = scope["wine"], scope["forest"]
    rows = [dict(zip(wine.feature_names, row, strict=True)) for row in wine.data[::20].tolist()]
    answer = stack.predict(rows).json()
    assert answer["predictions"] == forest.predict(wine.data[::20]).tolist()
    shares = [list(row.values()) for row in answer["probabilities"]]
    assert shares == [pytest.approx(row, abs=1e-9) for row in forest.predict_proba(wine.data[::20]).tolist()]


def test_the_guide_goes_from_fit_to_a_served_prediction(
    new_stack: NewStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require(shutil.which("curl") is not None, "curl is not installed")
    code = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)[0]
    start, command = re.findall(r"```sh\n(.*?)```", GUIDE, re.DOTALL)[0].splitlines()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MODEL_STORE", raising=False)
    scope: dict[str, Any] = {"__name__": "guide"}
    exec(code, scope)
    options = dict(word.split("=") for word in start.removesuffix(" make up").split())
    stack = new_stack(tmp_path / "models", **options).start()
    line = command.replace(ADDRESS, stack.url)
    ran = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True, timeout=60)
    row = json.loads(command.split("-d '")[1].rstrip("'"))
    asked = scope["pd"].DataFrame([row]).astype(scope["X"].dtypes)
    answer = json.loads(ran.stdout)
    assert answer["prediction"] == scope["model"].predict(asked)[0]
    assert list(answer["probabilities"].values()) == pytest.approx(scope["model"].predict_proba(asked)[0], abs=1e-9)


def test_a_module_of_your_own_is_served_as_the_guide_says(new_stack: NewStack, tmp_path: Path) -> None:
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules/features.py").write_text(block("python", "class Ratio"))
    (tmp_path / "export.py").write_text(block("python", r"extra_modules="))
    variables, command = block("sh", "PYTHONPATH=.* make up").strip().rsplit(" ", 2)[0], "env -0"
    # The shell sets the variables of the documented line, and prints them instead of starting anything.
    shell = {"cwd": tmp_path, "check": True, "capture_output": True, "timeout": 60}
    printed = subprocess.run(["sh", "-c", f"{variables} {command}"], **shell).stdout.decode()  # type: ignore[call-overload]
    environment = dict(each.split("=", 1) for each in printed.split("\0") if "=" in each)
    wanted = {name: environment[name] for name in ("PYTHONPATH", "TRUSTED_MODULES", "DEFAULT_MODEL")}
    path = f"{wanted['PYTHONPATH']}:{REPOSITORY}"
    subprocess.run(
        [sys.executable, "export.py"], env={**os.environ, "PYTHONPATH": path, "MODEL_STORE": "models"}, **shell
    )  # type: ignore[call-overload]

    stack = new_stack(tmp_path / "models", **wanted).start()

    answer = stack.http.post("/predict", json={"instances": [{"x0": 0.9, "x1": 0.1}, {"x0": 0.1, "x1": 0.9}]})
    assert answer.json()["predictions"] == [True, False]
