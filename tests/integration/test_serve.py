"""`serve`, the command of the container for SageMaker and KServe, with nothing but the files of its image."""

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.processes import PATIENCE_SECONDS, REPOSITORY, Process, free_port, wait_for

DOCKERFILE = (REPOSITORY / "Dockerfile.serve").read_text()
COPIED = [source for line in re.findall(r"^COPY (.+)$", DOCKERFILE, re.MULTILINE) for source in line.split()[:-1]]
SAGEMAKER = (REPOSITORY / "docs/sagemaker.md").read_text()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """Folder with the files of the image."""
    for source in COPIED:
        path, target = REPOSITORY / source, tmp_path / "app" / source
        if path.is_dir():
            shutil.copytree(path, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    return tmp_path / "app"


@pytest.fixture
def serve(tmp_path: Path, image: Path) -> Iterator[Process]:
    environment = {
        name: str(free_port()) for name in ("GATEWAY_PORT", "REDIS_PORT", "WORKER_METRICS_PORT", "PROMETHEUS_PORT")
    }
    # In its container, the gateway listens for others.
    environment |= {
        "GATEWAY_HOST": "127.0.0.1",
        "MODEL_STORE": str(tmp_path / "opt/ml/model"),
        "WORKER_CONCURRENCY": "1",
    }
    process = Process("serve", [sys.executable, "-m", "scripts.serve"], environment, tmp_path, folder_to_run_in=image)
    yield process
    if process.running:
        process.stop()


def unpack(models: Path, folder: Path) -> None:
    """Pack a store as the documentation says, and unpack it as SageMaker does."""
    [command] = re.findall(r"^(tar .*)$", SAGEMAKER, re.MULTILINE)
    (folder / "packed").mkdir()
    (folder / "packed/models").symlink_to(models)
    subprocess.run(["sh", "-c", command], cwd=folder / "packed", check=True, timeout=PATIENCE_SECONDS)
    (folder / "opt/ml/model").mkdir(parents=True)
    unpacking = ["tar", "-xzf", str(folder / "packed/model.tar.gz"), "-C", str(folder / "opt/ml/model")]
    subprocess.run(unpacking, check=True, timeout=PATIENCE_SECONDS)


def test_it_answers_as_sagemaker_asks_and_ends_on_sigterm(serve: Process, iris_models: Path, tmp_path: Path) -> None:
    unpack(iris_models, tmp_path)
    address = f"http://127.0.0.1:{serve.environment['GATEWAY_PORT']}"
    with httpx.Client(base_url=address, timeout=PATIENCE_SECONDS, trust_env=False) as http:

        def pings() -> bool:
            assert serve.running, serve.log()
            try:
                return http.get("/ping").status_code == 200
            except httpx.TransportError:
                return False

        serve.start()
        wait_for("/ping", pings, 2 * PATIENCE_SECONDS)
        rows = b"5.1,3.5,1.4,0.2\n6.7,3.0,5.2,2.3\n"
        answer = http.post("/invocations", content=rows, headers={"Content-Type": "text/csv"})
        assert answer.json() == {"predictions": ["setosa", "virginica"]}
        [body] = re.findall(r"--body '(.*)'", SAGEMAKER)
        answer = http.post("/invocations", json=json.loads(body))
        assert answer.json() == {"predictions": ["setosa"]}

    serve.signal(signal.SIGTERM)
    wait_for("the end", lambda: not serve.running)
    assert serve.stop() == 0, serve.log()
    assert "Traceback" not in serve.log()


def test_without_a_model_it_ends_with_one_line(serve: Process, tmp_path: Path) -> None:
    (tmp_path / "opt/ml/model").mkdir(parents=True)

    serve.start()
    wait_for("the end", lambda: not serve.running)

    assert serve.stop() == 1
    [line] = serve.log().strip().splitlines()
    assert line == f"headrace: {tmp_path}/opt/ml/model has 0 models: DEFAULT_MODEL names the one to serve"
