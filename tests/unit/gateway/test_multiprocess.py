"""One of several processes: the name of its metrics files, and the sum of what all of them counted."""

import json
import os
import subprocess
import sys
from pathlib import Path

from gateway.multiprocess import take_metrics_shard
from tests.support.processes import REPOSITORY

COUNT = """
import json, os, signal, sys
from pathlib import Path
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client import generate_latest
from gateway.metrics import GatewayMetrics
from gateway.multiprocess import take_metrics_shard
from shared.queue.contract import Lane
from shared.observability.multiprocess import forget_predecessor, name_files_by

shard = take_metrics_shard(Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]))
name_files_by(lambda: shard)
forget_predecessor(shard)
metrics = GatewayMetrics(one_of_several=True)
metrics.know("iris")
metrics.succeeded("iris", Lane.BULK, 0.25)
metrics.in_progress[Lane.BULK] = 3
metrics.waiting = lambda: 5
text = generate_latest(metrics.registry).decode()
print(json.dumps({
    "/".join([sample.name, *(sample.labels[label] for label in sorted(sample.labels))]): sample.value
    for family in text_string_to_metric_families(text)
    for sample in family.samples
}), flush=True)
sys.stdin.read()
os.kill(os.getpid(), signal.SIGKILL)
"""


class Counting:
    """A process that counts one submission, and is killed while others are in progress."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", COUNT],
            cwd=REPOSITORY,
            env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout
        self.samples: dict[str, float] = json.loads(self._process.stdout.readline())

    def kill(self) -> None:
        self._process.communicate(timeout=60)


def test_processes_add_up_and_a_successor_counts_on_without_what_was_in_progress(tmp_path: Path) -> None:
    first, second = Counting(tmp_path), Counting(tmp_path)
    first.kill()
    third = Counting(tmp_path)
    second.kill()
    third.kill()

    ok, count = "inference_requests_total/bulk/iris/ok", "inference_request_duration_seconds_count/bulk/iris"
    waiting, in_progress = "inference_waiting_rows", "inference_requests_in_progress/bulk"
    assert [process.samples[ok] for process in (first, second, third)] == [1, 2, 3]
    assert [process.samples[count] for process in (first, second, third)] == [1, 2, 3]
    assert [process.samples[waiting] for process in (first, second, third)] == [5, 10, 10]
    assert [process.samples[in_progress] for process in (first, second, third)] == [3, 6, 6]
    assert third.samples["inference_rejections_total/queue_full"] == 0, "every label set is there from the start"
    assert {path.stem.rsplit("_", 1)[-1] for path in tmp_path.iterdir()} == {"shard0", "shard1"}


def test_a_metrics_shard_belongs_to_one_process(tmp_path: Path) -> None:
    assert [take_metrics_shard(tmp_path) for _ in range(3)] == ["shard0", "shard1", "shard2"]
