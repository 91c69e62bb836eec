"""Prometheus and Grafana as docker-compose.yml sets them up: files, names, ports and uids fit together."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from shared.queue.contract import Lane
from tests.architecture.test_compose import (
    EXPORTER_PORT,
    GATEWAY_PORT,
    GRPC_METRICS_PORT,
    METRICS_PORT,
    ROOT,
    SERVICES,
    mounts,
    networks,
)
from tests.monitoring.queries import RULES

ALERTMANAGER = ROOT / "monitoring" / "alertmanager" / "alertmanager.yml"
SIDES = ("source_matchers", "target_matchers")


def scrape_jobs() -> dict[str, dict[str, Any]]:
    config = yaml.safe_load((ROOT / "monitoring" / "prometheus" / "prometheus.yml").read_text())
    return {job["job_name"]: job for job in config["scrape_configs"]}


def test_prometheus_reads_the_mounted_configuration() -> None:
    options = dict(option.split("=", 1) for option in SERVICES["prometheus"]["command"])
    folders = {target: ROOT / source for source, target, _ in mounts("prometheus") if source.startswith("./")}
    config = Path(options["--config.file"])
    assert (folders[str(config.parent)] / config.name).is_file()
    assert options["--storage.tsdb.path"] in {target for source, target, _ in mounts("prometheus")}
    assert options["--storage.tsdb.retention.time"] and options["--storage.tsdb.retention.size"]


@pytest.mark.parametrize(
    ("job", "targets"),
    [
        ("gateway", [("gateway", GATEWAY_PORT)]),
        ("grpc", [("grpc", GRPC_METRICS_PORT)]),
        ("worker", [("worker", METRICS_PORT)]),
        ("celery-exporter", [("celery-exporter", EXPORTER_PORT)]),
    ],
)
def test_prometheus_finds_its_targets(job: str, targets: list[tuple[str, int]]) -> None:
    config = scrape_jobs()[job]
    if "dns_sd_configs" in config:
        found = [(name, each["port"]) for each in config["dns_sd_configs"] for name in each["names"]]
        assert found == targets
    else:
        assert config["static_configs"] == [{"targets": [f"{name}:{port}" for name, port in targets]}]
    # In two common networks a name has two addresses.
    assert all(len(networks("prometheus") & networks(name)) == 1 for name, _ in targets)


def _options(name: str) -> dict[str, str]:
    return dict(option.split("=", 1) for option in SERVICES[name]["command"])


def test_rules_are_where_prometheus_looks() -> None:
    [pattern] = yaml.safe_load((ROOT / "monitoring" / "prometheus" / "prometheus.yml").read_text())["rule_files"]
    assert list((ROOT / "monitoring" / "prometheus").glob(pattern))


def test_the_error_budget_fits_into_what_prometheus_keeps() -> None:
    assert int(_options("prometheus")["--storage.tsdb.retention.time"].removesuffix("d")) > 30


def test_prometheus_finds_alertmanager_if_it_is_there() -> None:
    config = yaml.safe_load((ROOT / "monitoring" / "prometheus" / "prometheus.yml").read_text())
    # By DNS: a static target that does not exist would fail at every alert.
    assert config["alerting"] == {
        "alertmanagers": [{"dns_sd_configs": [{"names": ["alertmanager"], "type": "A", "port": 9093}]}]
    }
    assert len(networks("prometheus") & networks("alertmanager")) == 1


def test_alertmanager_reads_the_mounted_configuration() -> None:
    options = _options("alertmanager")
    folders = {target: ROOT / source for source, target, _ in mounts("alertmanager") if source.startswith("./")}
    config = Path(options["--config.file"])
    assert (folders[str(config.parent)] / config.name) == ALERTMANAGER
    assert options["--storage.path"] in {target for _, target, _ in mounts("alertmanager")}


def test_alerts_lead_to_receivers_that_exist() -> None:
    config = yaml.safe_load(ALERTMANAGER.read_text())
    receivers = {receiver["name"] for receiver in config["receivers"]}
    assert {route["receiver"] for route in (config["route"], *config["route"]["routes"])} == receivers
    named = [matcher for rule in config["inhibit_rules"] for side in SIDES for matcher in rule[side]]
    patterns = [re.fullmatch(r'alertname=~?"(.+)"', matcher) for matcher in named]
    alerts = set(re.findall(r"- alert: (\w+)", "".join(path.read_text() for path in RULES.glob("*.yml"))))
    for name in (name for pattern in patterns if pattern for name in pattern[1].split("|")):
        assert any(re.fullmatch(name, alert) for alert in alerts), name


def test_amtool_accepts_it() -> None:
    amtool = shutil.which("amtool")
    if amtool is None:
        # In the image only; the tests above check the most important settings.
        return
    result = subprocess.run([amtool, "check-config", ALERTMANAGER], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_job_is_a_service() -> None:
    assert set(scrape_jobs()) <= set(SERVICES)


def _provisioned(kind: str) -> dict[str, Any]:
    folders = {target: ROOT / source for source, target, _ in mounts("grafana") if source.startswith("./")}
    [file] = folders[f"/etc/grafana/provisioning/{kind}"].glob("*.yml")
    content: dict[str, Any] = yaml.safe_load(file.read_text())
    return content


def test_grafana_finds_the_dashboards() -> None:
    folders = {target: ROOT / source for source, target, _ in mounts("grafana")}
    [provider] = _provisioned("dashboards")["providers"]
    path = provider["options"]["path"]
    assert len(list(folders[path].glob("*.json"))) == 4
    # The data volume is mounted there and would hide them.
    assert not path.startswith("/var/lib/grafana")
    home = Path(SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert json.loads((folders[str(home.parent)] / home.name).read_text())["uid"] == "headrace-overview"


def test_grafana_asks_prometheus() -> None:
    [datasource] = _provisioned("datasources")["datasources"]
    url = urlsplit(datasource["url"])
    assert (url.hostname, url.port) == ("prometheus", 9090)
    assert networks("grafana") & networks("prometheus")
    assert datasource["uid"] == "prometheus", "the dashboards name it"
    assert datasource["editable"] is False


def test_nobody_can_guess_a_password_of_grafana() -> None:
    environment = SERVICES["grafana"]["environment"]
    assert environment["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    assert environment["GF_AUTH_DISABLE_LOGIN_FORM"] == "true"
    assert environment["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert environment["GF_USERS_ALLOW_SIGN_UP"] == "false"
    assert "GF_SECURITY_ADMIN_PASSWORD" not in environment


def test_grafana_installs_nothing_at_start() -> None:
    environment = SERVICES["grafana"]["environment"]
    assert environment["GF_PLUGINS_PREINSTALL_DISABLED"] == "true"
    assert environment["GF_PLUGINS_PREINSTALL_AUTO_UPDATE"] == "false"
    assert environment["GF_ANALYTICS_REPORTING_ENABLED"] == "false"


def test_celery_exporter_watches_our_queues() -> None:
    environment = SERVICES["celery-exporter"]["environment"]
    ours, workers = (
        urlsplit(url) for url in (environment["CE_BROKER_URL"], SERVICES["worker"]["environment"]["REDIS_URL"])
    )
    # Each is a user of its own.
    assert (ours.hostname, ours.port, ours.path) == (workers.hostname, workers.port, workers.path)
    assert environment["CE_QUEUES"].split(",") == [lane.value for lane in Lane]
