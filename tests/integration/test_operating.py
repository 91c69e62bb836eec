"""The promises of docs/operate.md: a backup while all runs, a restore into an empty Redis, the deletion of jobs."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
from sklearn.tree import DecisionTreeClassifier

from headrace import export
from tests.integration.conftest import NewStack
from tests.support.processes import REPOSITORY, wait_for
from tests.support.stack import Stack

PAGE = (REPOSITORY / "docs/operate.md").read_text("utf-8")
FLOWER = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}
ADDRESS = "http://127.0.0.1:8000"
JOBS = 5


def block(containing: str) -> str:
    """Return the block of shell on the page that holds a text."""
    [found] = [each for each in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) if containing in each]
    return str(found)


def sh(script: str, folder: Path) -> None:
    subprocess.run(["sh", "-ec", script], cwd=folder, check=True, timeout=60)


def export_other(models: Path, name: str) -> None:
    rows = np.array([[0.0], [1.0]])
    export(DecisionTreeClassifier().fit(rows, ["no", "yes"]), rows, name=name, store=str(models), scores={})


def test_a_backup_of_all_that_runs_is_restored_and_each_accepted_job_runs_once(
    new_stack: NewStack, tmp_path: Path, iris_models: Path
) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    models = before / "models"
    shutil.copytree(iris_models, models)
    data = before / ".run/redis"
    data.mkdir(parents=True)
    stack = new_stack(models, broker_folder=data).start()
    ended = stack.submit(FLOWER, headers={"Idempotency-Key": "first"})
    result = stack.outcome(ended)["result"]
    stack.workers[0].stop()
    open_jobs = [stack.submit(FLOWER) for _ in range(JOBS)]

    sh(block("cp -R .run/redis/appendonlydir"), before)

    stack.submit(FLOWER, headers={"Idempotency-Key": "after the copy"})
    restored = after / ".run/redis"
    restored.mkdir(parents=True)
    shutil.copytree(before / "backup/models", after / "models")
    shutil.copytree(before / "backup", restored / "appendonlydir", ignore=shutil.ignore_patterns("models"))
    stack = new_stack(after / "models", broker_folder=restored).start()

    assert stack.job(ended)["result"] == result
    assert stack.submit(FLOWER, headers={"Idempotency-Key": "first"}) == ended
    views = [stack.outcome(each) for each in open_jobs]
    assert {(view["status"], view["attempt"]) for view in views} == {("succeeded", 1)}
    stack.assert_conserved()
    assert stack.jobs()["accepted"] == 1 + JOBS

    delete_all(stack, [ended, *open_jobs], after)


def delete_all(stack: Stack, jobs: list[str], folder: Path) -> None:
    """Run the commands that delete the jobs that have succeeded."""
    sh(block("status=succeeded").replace(ADDRESS, stack.url), folder)

    assert {stack.status(f"/jobs/{each}") for each in jobs} == {404}


def test_a_wrong_default_model_keeps_no_other_from_being_served_and_heals(new_stack: NewStack, tmp_path: Path) -> None:
    models = tmp_path / "models"
    export_other(models, "other")
    stack = new_stack(models, DEFAULT_MODEL="wanted").start_without_workers()
    [worker] = stack.workers
    worker.start()

    answer = wait_for("the worker answers", lambda: predicted(stack, "other"))
    assert answer["prediction"] == "yes"
    refused = stack.http.get("/readyz")
    assert (refused.status_code, "DEFAULT_MODEL" in refused.json()["detail"]) == (503, True)
    assert stack.predict({"x0": 1.0}).status_code == 404
    for process in (stack.gateway, worker):
        assert "DEFAULT_MODEL: no model 'wanted' in " in process.log()

    export_other(models, "wanted")
    stack.wait_ready()
    assert stack.predict({"x0": 1.0}).json()["prediction"] == "yes"

    models.joinpath("other").rename(tmp_path / "removed")
    wait_for("it is unknown", lambda: stack.status("/models/other") == 404)


def predicted(stack: Stack, name: str) -> dict[str, str] | None:
    """Return the answer of a model, None if there is none yet."""
    answer = stack.http.post(f"/models/{name}/predict", json={"x0": 1.0})
    return dict(answer.json()) if answer.status_code == 200 else None
