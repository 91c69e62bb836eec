"""Prometheus' configuration is valid, finds every replica, and is the same with Docker, without, and for machines."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from monitoring.preview.dashboard import duration_seconds
from monitoring.preview.queries import SCRAPE_SECONDS
from tests.support.promtool import promtool

FOLDER = Path(__file__).parents[2] / "monitoring" / "prometheus"
CONFIGS = ("prometheus.yml", "prometheus-local.yml", "prometheus-machines.yml")
TARGETS = FOLDER.parents[1] / "deploy/two-machines/targets"


def jobs(name: str) -> dict[str, dict[str, Any]]:
    config = yaml.safe_load((FOLDER / name).read_text())
    return {job["job_name"]: job for job in config["scrape_configs"]}


@pytest.mark.parametrize("name", CONFIGS)
def test_promtool_accepts_it(name: str) -> None:
    result = subprocess.run(
        [promtool(), "check", "config", "--lint=all", "--lint-fatal", FOLDER / name],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_they_differ_only_in_their_targets() -> None:
    def without_targets(name: str) -> Any:
        config = yaml.safe_load((FOLDER / name).read_text())
        for job in config["scrape_configs"]:
            for discovery in ("dns_sd_configs", "file_sd_configs", "static_configs"):
                job.pop(discovery, None)
        # Alertmanager is a service of Compose.
        config.pop("alerting", None)
        return config

    with_docker, local, machines = (without_targets(name) for name in CONFIGS)
    assert with_docker == local == machines


@pytest.mark.parametrize("name", ["prometheus.yml", "prometheus-machines.yml"])
def test_targets_on_other_machines_are_found_by_files(name: str, tmp_path: Path) -> None:
    """The examples are valid, and each is read by the job that it is named after."""
    for each in [FOLDER / name, *FOLDER.glob("rules/*.yml"), *TARGETS.glob("*.yml")]:
        copy = tmp_path / {TARGETS: "targets", FOLDER: "."}.get(each.parent, "rules") / each.name
        copy.parent.mkdir(exist_ok=True)
        copy.write_text(each.read_text())
    (tmp_path / "targets/grpc.yml").write_text("- targets: [127.0.0.1:9201]")
    (tmp_path / "targets/celery-exporter.yml").write_text("- targets: [127.0.0.1:9808]")
    command = [promtool(), "check", "config", "--lint=all", "--lint-fatal", str(tmp_path / name)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, ""), result.stdout + result.stderr
    # Each pattern has found its file.
    assert "does not exist" not in result.stdout
    for each in TARGETS.glob("*.yml"):
        [discovery] = jobs(name)[each.stem]["file_sd_configs"]
        assert discovery["files"] == [f"targets/{each.stem}*.yml"]


def test_targets_on_other_machines_are_found_by_dns() -> None:
    """SRV records have ports, so that a machine may have several workers."""
    for job in ("gateway", "grpc", "worker"):
        [discovery] = jobs("prometheus-machines.yml")[job]["dns_sd_configs"]
        assert discovery["names"] == [f"_{job}._tcp.headrace.internal"]
        assert discovery.get("type", "SRV") == "SRV"


@pytest.mark.parametrize("name", CONFIGS)
def test_no_target_can_fill_the_disk(name: str) -> None:
    assert all(job["sample_limit"] for job in jobs(name).values())


@pytest.mark.parametrize("name", CONFIGS)
def test_celery_exporter_gets_the_time_that_a_scrape_takes(name: str) -> None:
    job = jobs(name)["celery-exporter"]
    assert (job["scrape_interval"], job["scrape_timeout"]) == ("15s", "10s")


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize(
    ("series", "kept"),
    [
        ({"__name__": "celery_task_received_total", "queue_name": "celery"}, {"queue_name": ""}),
        ({"__name__": "celery_task_runtime_bucket", "queue_name": "celery"}, {"queue_name": ""}),
        ({"__name__": "celery_queue_length", "queue_name": "bulk"}, {"queue_name": "bulk"}),
        ({"__name__": "celery_worker_up"}, {}),
        ({"__name__": "celery_task_sent_total", "queue_name": "celery"}, None),
        ({"__name__": "celery_task_received_created", "queue_name": "celery"}, None),
    ],
    ids=str,
)
def test_what_celery_exporter_makes_up_is_left_out(
    name: str, series: dict[str, str], kept: dict[str, str] | None
) -> None:
    assert relabelled(series, jobs(name)["celery-exporter"]["metric_relabel_configs"]) == kept


def relabelled(series: dict[str, str], rules: list[dict[str, Any]]) -> dict[str, str] | None:
    """Return the labels after relabelling, without the name, as far as these rules use it; None if dropped."""
    labels = dict(series)
    for rule in rules:
        value = ";".join(labels.get(label, "") for label in rule["source_labels"])
        if not re.fullmatch(rule["regex"], value):
            continue
        if rule.get("action") == "drop":
            return None
        labels[rule["target_label"]] = rule["replacement"]
    return {label: value for label, value in labels.items() if label != "__name__"}


@pytest.mark.parametrize("job", ["gateway", "grpc", "worker"])
def test_replicas_are_found_by_dns(job: str) -> None:
    [discovery] = jobs("prometheus.yml")[job]["dns_sd_configs"]
    assert discovery["names"] == [job]
    # The default is SRV, which Docker's DNS does not answer, every 30 s.
    assert discovery["type"] == "A"
    assert discovery["refresh_interval"] == "5s"


def test_without_docker_nothing_leaves_the_machine() -> None:
    for job in jobs("prometheus-local.yml").values():
        [group] = job["static_configs"]
        assert all(target.startswith("127.0.0.1:") for target in group["targets"])
        assert "dns_sd_configs" not in job


def test_the_datasource_knows_the_scrape_interval() -> None:
    """Grafana derives `$__rate_interval` from it; with another value, rates would have holes or be sluggish."""
    path = FOLDER.parent / "grafana" / "provisioning" / "datasources" / "prometheus.yml"
    [datasource] = yaml.safe_load(path.read_text())["datasources"]
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    assert datasource["jsonData"]["timeInterval"] == config["global"]["scrape_interval"]
    # The preview without Grafana uses the same interval.
    assert duration_seconds(datasource["jsonData"]["timeInterval"]) == SCRAPE_SECONDS
