"""The services as delivered: `docker compose up` in a fresh clone."""

import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from sklearn.datasets import load_wine
from sklearn.tree import DecisionTreeClassifier

from headrace import export
from tests.compose.clone import GUIDE, OPERATE, README, code
from tests.compose.engine import Engine
from tests.compose.load import FLOWER, Load
from tests.compose.stack import ComposeStack
from tests.support.processes import wait_for

pytestmark = pytest.mark.timeout(1800)

ANSWERS = {200, 503, 504}
"""Statuses of a prediction while something is broken."""

ENDED_BY_SIGTERM = 128 + 15
"""Exit code of a process that ends in its time; one that Docker kills after `stop_grace_period` has 137."""


@pytest.fixture(scope="module")
def stack(engine: Engine, clone: Path) -> Iterator[ComposeStack]:
    stack = ComposeStack(engine, clone, WORKERS="2")
    try:
        stack.up()
        yield stack
    finally:
        stack.close()


def assert_all_succeed(stack: ComposeStack, jobs: list[str]) -> None:
    assert {stack.outcome(each)["status"] for each in jobs} == {"succeeded"}
    stack.assert_conserved()


def test_every_service_is_healthy_and_scraped(stack: ComposeStack) -> None:
    states = {(each["Service"], each["State"], each["Health"] or each["ExitCode"]) for each in stack.containers()}
    running = {"celery-exporter", "gateway", "grafana", "prometheus", "redis", "worker"}
    assert states == {(name, "running", "healthy") for name in running} | {("trainer", "exited", 0)}

    wait_for("all targets", lambda: len(stack.query("up == 1")) == 5)
    assert not stack.query("up == 0")


def test_dashboards_can_be_read_in_a_clone_with_a_strict_umask(stack: ComposeStack) -> None:
    assert httpx.get(f"{stack.urls['GRAFANA_PORT']}/api/health", trust_env=False).status_code == 200
    for name in ("dashboards/overview.json", "provisioning/datasources/prometheus.yml"):
        shown = stack.compose("exec", "-T", "grafana", "cat", f"/etc/grafana/{name}")
        assert shown == (stack.folder / "monitoring/grafana" / name).read_text()


def test_predictions_jobs_and_the_commands_of_operators(stack: ComposeStack) -> None:
    assert stack.predict(FLOWER).json()["prediction"] == "setosa"
    assert stack.outcome(stack.submit(FLOWER))["result"]["prediction"] == "setosa"
    assert "iris" in stack.compose("run", "--rm", "trainer", "headrace", "list")
    assert "QUEUE" in stack.compose("run", "--rm", "operator")


def test_models_of_a_table_a_script_and_a_folder_are_served(stack: ComposeStack) -> None:
    rows = "".join(f"{age},{'stays' if age < 40 else 'leaves'}\n" for age in range(20, 60))
    (stack.folder / "customers.csv").write_text(f"age,outcome\n{rows}")
    (stack.folder / "customers.csv").chmod(0o644)
    [train] = code("sh", GUIDE, "From a table")
    stack.shell(train)
    assert wait_for("the table's model", lambda: answered(stack, "customers", {"age": 25})) == "stays"

    [program] = code("python", README, "Your own model")
    (stack.folder / "train.py").write_text(program)
    [run] = code("sh", GUIDE, "From a script")
    stack.shell(run)
    wine = load_wine()
    row = dict(zip(wine.feature_names, wine.data[0].tolist(), strict=True))
    assert wait_for("the script's model", lambda: answered(stack, "wine", row)) == "class_0"

    forest = DecisionTreeClassifier().fit(wine.data, ["mine"] * len(wine.data))
    export(
        forest, wine.data, name="wine", version="mine", store=stack.folder / "models", feature_names=wine.feature_names
    )
    unpack, give_away = code("sh", GUIDE, "From a folder")
    stack.shell(unpack.replace("VERSION", "mine"))
    wait_for("the folder's model", lambda: answered(stack, "wine", row) == "mine")
    [moves] = code("sh", GUIDE, "Promote, try, roll back")
    stack.shell(moves)

    (stack.folder / "models/wine").rename(stack.folder / "models/copied")
    stack.compose("cp", "models/copied", "trainer:/models/")
    stack.shell(give_away)
    assert "root" not in stack.compose("run", "--rm", "-T", "trainer", "ls", "-lR", "/models")


def answered(stack: ComposeStack, model: str, row: dict[str, float]) -> str | None:
    """Return a model's prediction, None if there is none yet."""
    answer = stack.http.post(f"/models/{model}/predict", json=row)
    return str(answer.json()["prediction"]) if answer.status_code == 200 else None


def test_a_wrong_default_model_takes_nothing_down(stack: ComposeStack) -> None:
    stack.set(DEFAULT_MODEL="none")
    stack.compose("up", "--detach", "--wait")
    wait_for("the other model", lambda: answered(stack, "iris", FLOWER) == "setosa")
    assert "DEFAULT_MODEL" in stack.http.get("/readyz").json()["detail"]

    stack.set(DEFAULT_MODEL="iris")
    stack.up()


def test_no_call_fails_while_workers_are_restarted_one_after_the_other(stack: ComposeStack) -> None:
    [roll] = [each for each in code("sh", GUIDE, "Replicas") if "roll worker" in each]
    with Load(stack.url) as load:
        wait_for("load", load.flows)
        stack.shell(roll)

    assert load.statuses.keys() == {200}
    assert_all_succeed(stack, load.jobs)


def test_three_replicas_count_every_row_once(stack: ComposeStack) -> None:
    stack.set(WORKERS="3")
    stack.up()
    stack.wait_for_slots(6)
    rows = 'inference_predictions_total{outcome="ok"}'
    wait_for("three replicas", lambda: len(stack.query('up{job="worker"} == 1')) == 3)
    # The rows of earlier tests and of probes have been scraped.
    before = wait_for("rest", lambda: _unchanged(stack, rows))

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: stack.predict([FLOWER] * 5).status_code, range(60)))
    assert set(answers) == {200}

    after = wait_for("all rows", lambda: _grown(stack, rows, before, 300))
    assert len(after) == 3 and all(after[each] > before.get(each, 0) for each in after)
    assert sum(after.values()) - sum(before.values()) == 300


def _unchanged(stack: ComposeStack, expression: str) -> dict[str, float] | None:
    """Return values that are the same as 12 s ago, over two scrapes."""
    now = stack.query(expression)
    return now if now and now == stack.query(expression, time.time() - 12) else None


def _grown(stack: ComposeStack, expression: str, before: dict[str, float], by: float) -> dict[str, float] | None:
    now = stack.query(expression)
    return now if sum(now.values()) >= sum(before.values()) + by else None


def test_a_replica_that_crashes_is_replaced_and_loses_no_job(stack: ComposeStack) -> None:
    slots = stack.http.get("/health").json()["workers"]["slots"]
    with Load(stack.url) as load:
        wait_for("load", load.flows)
        stack.crash(stack.compose("ps", "--quiet", "worker").split()[0])
        wait_for("healthy", lambda: {each["Health"] for each in stack.containers("worker")} == {"healthy"}, 120)
        stack.wait_for_slots(slots)

    assert load.statuses.keys() <= ANSWERS
    assert_all_succeed(stack, load.jobs)


def test_a_crash_of_redis_loses_no_job(stack: ComposeStack) -> None:
    [redis] = stack.compose("ps", "--quiet", "redis").split()
    with Load(stack.url) as load:
        wait_for("load", load.flows)
        stack.crash(redis)
        stack.wait_ready()
        answered = load.statuses[200]
        wait_for("predictions again", lambda: load.statuses[200] > answered + 10)

    assert load.statuses.keys() <= ANSWERS
    assert_all_succeed(stack, load.jobs)


def test_a_stop_under_load_and_down_and_up_lose_nothing(stack: ComposeStack) -> None:
    with Load(stack.url) as load:
        wait_for("load", load.flows)
        model, before = stack.http.get("/model-info").json()["version"], time.time()
        stack.compose("stop")

    assert load.statuses.keys() <= {0, *ANSWERS}
    assert {each["ExitCode"] for each in stack.containers()} <= {0, ENDED_BY_SIGTERM}

    stack.compose("down")
    assert stack.containers() == []
    stack.up()

    assert_all_succeed(stack, load.jobs)
    assert stack.http.get("/model-info").json()["version"] == model
    assert stack.query('up{job="gateway"}', before), "Prometheus has what it had"


def test_a_backup_of_redis_and_store_is_restored(stack: ComposeStack) -> None:
    job = stack.submit(FLOWER)
    result = stack.outcome(job)["result"]
    backup, *_ = code("sh", OPERATE, "Backup")
    stack.shell(backup)
    later = stack.submit(FLOWER)

    [restore] = code("sh", OPERATE, "Restore")
    [project] = re.findall(r"COMPOSE_PROJECT_NAME=(.*)", (stack.folder / ".env").read_text())
    stack.shell(restore.replace("project=headrace", f"project={project}"))
    stack.wait_ready()

    assert stack.job(job)["result"] == result
    assert stack.status(f"/jobs/{later}") == 404
    stack.assert_conserved()


def test_libraries_of_own_models_and_a_store_in_a_bucket_are_in_the_configuration(stack: ComposeStack) -> None:
    variables, build = code("ini", GUIDE, "Libraries"), code("sh", GUIDE, "Libraries")
    stack.set(**dict(line.split("=", 1) for line in variables[0].splitlines() if "=" in line))
    stack.shell(build[0].partition(" && ")[0])
    assert (
        stack.compose("run", "--rm", "-T", "trainer", "python", "-c", "import xgboost; print(xgboost.__version__)")
        == "3.2.0\n"
    )

    stack.set(
        COMPOSE_FILE="docker-compose.yml:docker-compose.s3.yml:docker-compose.override.yml", AWS_ACCESS_KEY_ID="id"
    )
    services = json.loads(stack.compose("config", "--format", "json"))["services"]
    assert "network_mode" not in services["trainer"]
    assert {name for name in services if services[name].get("environment", {}).get("AWS_ACCESS_KEY_ID") == "id"} == {
        "gateway",
        "trainer",
        "worker",
    }
    stack.set(COMPOSE_FILE="docker-compose.yml:docker-compose.override.yml")
