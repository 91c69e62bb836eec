"""docker-compose.yml against the code.

Docker is not available wherever the tests run, so the file is checked exactly.
"""

import importlib.util
import re
import shlex
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml
from opentelemetry.sdk import environment_variables

from gateway.__main__ import GRACEFUL_SECONDS
from gateway.rpc.settings import GrpcSettings
from gateway.settings import GatewaySettings
from headrace.cli import service_commands
from scripts.stack import EXPORTER_SETTINGS
from shared.queue.contract import Lane
from shared.settings import CommonSettings
from tests.architecture.test_dockerfiles import arguments_of, image_environment
from worker.settings import WorkerSettings

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docker-compose.yml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", TEXT))
"""Return a value as Docker reads it when no variable is set."""

SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
SETTINGS: dict[str, type[CommonSettings]] = {
    "gateway": GatewaySettings,
    "grpc": GrpcSettings,
    "trainer": CommonSettings,
    "worker": WorkerSettings,
}
DOCKERFILES = {
    "gateway": "Dockerfile.gateway",
    "grpc": "Dockerfile.gateway",
    "trainer": "Dockerfile.worker",
    "worker": "Dockerfile.worker",
}
GATEWAY_PORT = GatewaySettings.model_fields["gateway_port"].default
GRPC_PORT = GrpcSettings.model_fields["grpc_port"].default
GRPC_METRICS_PORT = GrpcSettings.model_fields["grpc_metrics_port"].default
METRICS_PORT = WorkerSettings.model_fields["worker_metrics_port"].default
EXPORTER_PORT = 9808

EXTRA = "WORKER_EXTRA_PACKAGES"
"""Argument of the build that names libraries of a person's own models."""

ONCE = {"operator", "trainer"}
"""Services that run a command and end."""

each_service = pytest.mark.parametrize("name", SERVICES)
each_of_ours = pytest.mark.parametrize("name", SETTINGS)


def networks(name: str) -> set[str]:
    return set(SERVICES[name].get("networks", []))


def mounts(name: str) -> list[tuple[str, str, str]]:
    """Return (source, target, mode) of each mount."""
    parts = [volume.split(":") for volume in SERVICES[name].get("volumes", [])]
    return [(part[0], part[1], part[2] if len(part) > 2 else "rw") for part in parts]


def seconds(duration: str) -> float:
    assert duration.endswith("s") and duration[:-1].isdigit()
    return float(duration[:-1])


# No preparation needed


def test_it_starts_without_any_preparation() -> None:
    assert not re.findall(r"\$\{\w+(?!\w|:-)", TEXT), "every variable needs a default"
    assert "env_file" not in TEXT
    assert "external:" not in TEXT


@each_service
def test_images_are_pinned(name: str) -> None:
    _, _, tag = SERVICES[name]["image"].rpartition("/")[2].partition(":")
    assert tag and tag != "latest"


def test_every_image_of_ours_is_built_once() -> None:
    """Check that each of our images is built once.

    Two builds of one tag at once can fail, and no registry has the image.
    """
    builders = {service["image"]: name for name, service in SERVICES.items() if "build" in service}
    assert set(builders.values()) == {"gateway", "trainer"}
    for name in SETTINGS:
        image = SERVICES[name]["image"]
        if builders[image] != name:
            assert SERVICES[name]["pull_policy"] == "never"
            assert builders[image] in SERVICES[name]["depends_on"]


@pytest.mark.parametrize("name", ["gateway", "trainer"])
def test_dockerfiles_are_the_known_ones(name: str) -> None:
    build = {"context": ".", "dockerfile": DOCKERFILES[name]}
    assert SERVICES[name]["build"] == build | ({"args": {EXTRA: ""}} if name == "trainer" else {})
    assert (f'{EXTRA}: "${{{EXTRA}:-}}"\n' in TEXT) == (f'{EXTRA}=""' in arguments_of(DOCKERFILES["trainer"], "ARG"))


def test_only_alertmanager_grpc_and_operator_are_optional() -> None:
    optional = {name: service["profiles"] for name, service in SERVICES.items() if "profiles" in service}
    assert optional == {"alertmanager": ["alerting"], "grpc": ["grpc"], "operator": ["operator"]}
    assert not any(optional.keys() & service.get("depends_on", {}) for service in SERVICES.values())


# Our processes


@each_of_ours
def test_environment_names_are_settings(name: str) -> None:
    fields = {field.upper() for field in (SETTINGS[name] if name != "trainer" else WorkerSettings).model_fields}
    standard = {variable for variable in SERVICES[name].get("environment", {}) if variable.startswith("OTEL_")}
    assert standard <= {value for key, value in vars(environment_variables).items() if key.startswith("OTEL_")}
    assert set(SERVICES[name].get("environment", {})) - standard <= fields


def test_spans_have_one_way_out() -> None:
    """Check that the documentation's collector is where gateway and worker look for it, and has one network with
    targets.


    """
    document = (ROOT / "docs/tracing.md").read_text()
    (override,) = re.findall(r"```yaml\n(.*?)```", document, re.DOTALL)
    [(name, service)] = yaml.safe_load(override)["services"].items()
    for ours in ("gateway", "worker"):
        endpoint = urlsplit(SERVICES[ours]["environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"])
        assert (endpoint.hostname, endpoint.port) == (name, 4318)
        assert networks(ours) & set(service["networks"])
    assert set(service["networks"]) <= set(COMPOSE["networks"])
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" not in SERVICES["trainer"]["environment"]


@each_of_ours
def test_the_process_accepts_its_environment(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    values = image_environment(DOCKERFILES[name]) | SERVICES[name]["environment"]
    for variable, value in values.items():
        assert isinstance(value, (str, int)), f"{variable} would not be the text that it looks like"
        monkeypatch.setenv(variable, str(value))
    SETTINGS[name]()


@each_of_ours
def test_commands_are_modules(name: str) -> None:
    command = SERVICES[name].get("command", ["python", "-m", name])
    if command[0] == "headrace":
        assert command[1] in service_commands.COMMANDS
        return
    assert command[:2] == ["python", "-m"]
    assert importlib.util.find_spec(f"{command[2]}.__main__")


def test_the_trainer_leaves_a_model_alone() -> None:
    assert SERVICES["trainer"]["command"] == ["headrace", "train", "--if-missing"]


@each_of_ours
def test_models_are_where_the_image_looks_and_only_the_trainer_writes_them(name: str) -> None:
    [(source, target, mode)] = mounts(name)
    assert source == "models"
    assert target == image_environment(DOCKERFILES[name])["MODEL_STORE"]
    assert mode == ("rw" if name == "trainer" else "ro")


@each_of_ours
def test_they_run_as_the_user_of_their_image(name: str) -> None:
    assert [SERVICES[name]["user"]] == arguments_of(DOCKERFILES[name], "USER")


@pytest.mark.parametrize(
    ("name", "variable", "user"),
    [
        ("gateway", "REDIS_URL", "gateway"),
        ("grpc", "REDIS_URL", "gateway"),
        ("operator", "REDIS_URL", "operator"),
        ("worker", "REDIS_URL", "worker"),
        ("celery-exporter", "CE_BROKER_URL", "exporter"),
    ],
)
def test_the_broker_is_reachable(name: str, variable: str, user: str) -> None:
    url = urlsplit(SERVICES[name]["environment"][variable])
    assert (url.hostname, url.port) == ("redis", 6379)
    assert networks(name) & networks("redis")
    assert url.username == user
    assert f">{url.password}" in _redis_users()[user]
    # The value as it stands in the file: whoever sets the variable sets both.
    assert TEXT.count(f"${{{user.upper()}_REDIS_PASSWORD:-{user}}}") == (3 if user in {"gateway", "operator"} else 2)


def test_workers_can_be_scaled() -> None:
    assert not {"container_name", "ports", "hostname"} & set(SERVICES["worker"])
    assert not re.search(r"container_name:", TEXT)


def test_the_number_of_workers_outlasts_an_up_without_scale_and_is_what_the_alert_expects() -> None:
    assert "    scale: ${WORKERS:-1}\n" in TEXT
    assert "  WORKERS: ${WORKERS:-1}\n" in TEXT
    assert [name for name, service in SERVICES.items() if "scale" in service] == ["worker"]
    assert SERVICES["gateway"]["environment"]["WORKERS"] == SERVICES["worker"]["scale"] == 1


def test_the_operator_has_the_image_that_holds_its_command() -> None:
    operator = SERVICES["operator"]
    assert operator["command"][:2] == ["headrace", "dead-letters"]
    assert service_commands.COMMANDS["dead-letters"].container == "operator"
    assert operator["image"] == SERVICES["gateway"]["image"]
    assert operator["pull_policy"] == "never"
    assert operator["user"] == SERVICES["gateway"]["user"]


def test_metrics_files_of_a_worker_are_its_own() -> None:
    folder = SERVICES["worker"]["environment"]["PROMETHEUS_MULTIPROC_DIR"]
    [options] = [options for path, _, options in _tmpfs("worker") if path == folder]
    assert "uid=10001" in options
    assert "PROMETHEUS_MULTIPROC_DIR" not in SERVICES["trainer"]["environment"]


def test_processes_of_the_gateway_get_a_core_each_and_keep_their_counts_in_memory() -> None:
    assert "GATEWAY_PROCESSES: ${GATEWAY_PROCESSES:-1}\n" in TEXT
    assert "cpus: ${GATEWAY_PROCESSES:-1}\n" in TEXT
    assert SERVICES["gateway"]["cpus"] == SERVICES["gateway"]["environment"]["GATEWAY_PROCESSES"] == 1
    assert "/tmp" in [path for path, _, _ in _tmpfs("gateway")]
    assert not {"TMPDIR", "PROMETHEUS_MULTIPROC_DIR"} & {
        *SERVICES["gateway"]["environment"],
        *image_environment(DOCKERFILES["gateway"]),
    }


def _tmpfs(name: str) -> list[tuple[str, str, str]]:
    return [entry.partition(":") for entry in SERVICES[name]["tmpfs"]]


def test_running_work_may_finish() -> None:
    drain_seconds = WorkerSettings.model_fields["worker_drain_seconds"].default
    assert seconds(SERVICES["worker"]["stop_grace_period"]) > drain_seconds + 10
    for name in ("gateway", "grpc"):
        assert seconds(SERVICES[name]["stop_grace_period"]) > GRACEFUL_SECONDS


# Volumes, networks, ports


def test_volumes_are_declared_and_used() -> None:
    used = {source for name in SERVICES for source, _, _ in mounts(name) if not source.startswith("./")}
    assert used == set(COMPOSE["volumes"])


@each_service
def test_files_that_are_mounted_exist_and_are_read_only(name: str) -> None:
    for source, _, mode in mounts(name):
        if source.startswith("./"):
            assert (ROOT / source).exists(), source
            assert mode == "ro"


@each_service
def test_networks_are_declared(name: str) -> None:
    assert networks(name) <= set(COMPOSE["networks"])
    assert networks(name) or SERVICES[name]["network_mode"] == "none"


def test_ports_are_published_on_the_loopback_interface_only() -> None:
    ports = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert ports == {
        "alertmanager": ["127.0.0.1:9093:9093"],
        "gateway": [f"127.0.0.1:{GATEWAY_PORT}:{GATEWAY_PORT}"],
        "grafana": ["127.0.0.1:3000:3000"],
        "grpc": [f"127.0.0.1:{GRPC_PORT}:{GRPC_PORT}"],
        "prometheus": ["127.0.0.1:9090:9090"],
    }


@each_service
def test_only_who_is_published_can_reach_the_internet(name: str) -> None:
    outside = {network for network in networks(name) if not (COMPOSE["networks"][network] or {}).get("internal")}
    assert bool(outside) == ("ports" in SERVICES[name])


# Hardening


@each_service
def test_it_is_hardened(name: str) -> None:
    service = SERVICES[name]
    assert service["init"] is True
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service and "privileged" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert [options for path, _, options in _tmpfs(name) if path == "/tmp"]
    assert all({"noexec", "nosuid"} <= set(options.split(",")) for _, _, options in _tmpfs(name))
    assert service["pids_limit"] and service["mem_limit"] and service["cpus"]
    assert service["logging"]["options"]["max-size"]
    assert "docker.sock" not in str(service)


@each_service
def test_it_comes_back_unless_it_was_done(name: str) -> None:
    assert SERVICES[name]["restart"] == ("no" if name in ONCE else "unless-stopped")


@each_service
def test_it_is_probed_unless_it_runs_once(name: str) -> None:
    assert ("healthcheck" in SERVICES[name]) == (name not in ONCE)


@each_service
def test_what_it_waits_for_can_happen(name: str) -> None:
    for other, condition in SERVICES[name].get("depends_on", {}).items():
        if condition["condition"] == "service_healthy":
            assert "healthcheck" in SERVICES[other]
        else:
            assert condition["condition"] == "service_completed_successfully"
            assert SERVICES[other]["restart"] == "no"


@pytest.mark.parametrize("name", ["gateway", "worker"])
def test_it_waits_for_the_broker_and_the_model(name: str) -> None:
    assert SERVICES[name]["depends_on"] == {
        "redis": {"condition": "service_healthy"},
        "trainer": {"condition": "service_completed_successfully"},
    }


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("gateway", f"http://127.0.0.1:{GATEWAY_PORT}/livez"),
        ("grpc", f"http://127.0.0.1:{GRPC_METRICS_PORT}/livez"),
        ("worker", f"http://127.0.0.1:{METRICS_PORT}/metrics"),
        ("celery-exporter", f"http://127.0.0.1:{EXPORTER_PORT}/health"),
        ("prometheus", "http://127.0.0.1:9090/-/healthy"),
        ("grafana", "http://127.0.0.1:3000/api/health"),
        ("alertmanager", "http://127.0.0.1:9093/-/healthy"),
    ],
)
def test_probes_ask_by_http(name: str, url: str) -> None:
    test = SERVICES[name]["healthcheck"]["test"]
    assert (test[0], test[-1]) == ("CMD", url)
    # Slim images lack it; and `celery inspect ping` leaves metrics files behind.
    assert not {"curl", "celery"} & set(test)


def test_the_probe_is_python() -> None:
    *_, script, _ = SERVICES["gateway"]["healthcheck"]["test"]
    compile(script, "healthcheck", "exec")


def test_celery_exporter_is_set_up_as_without_docker() -> None:
    environment = SERVICES["celery-exporter"]["environment"]
    assert {name: value for name, value in environment.items() if name != "CE_BROKER_URL"} == EXPORTER_SETTINGS
    assert EXPORTER_SETTINGS["CE_QUEUES"].split(",") == [lane.value for lane in Lane]


# Redis


def _redis_options() -> dict[str, str]:
    command = [word for word in SERVICES["redis"]["command"] if not word.startswith("--user ")]
    assert all(isinstance(word, str) for word in command)
    return dict(zip(command[::2], command[1::2], strict=True))


def _redis_users() -> dict[str, list[str]]:
    """Return the rules of each user.

    tests/integration/test_redis_users.py shows that they are sufficient and not too wide.
    """
    options = [word.split() for word in SERVICES["redis"]["command"] if word.startswith("--user ")]
    return {name: rules for _, name, *rules in options}


def test_every_client_of_redis_is_a_user_with_rules_of_its_own() -> None:
    users = _redis_users()
    assert set(users) == {"default", "gateway", "worker", "exporter", "operator"}
    assert users.pop("default") == ["off", "~*", "&*", "+@all"]
    for name, rules in users.items():
        assert rules[0] == "on"
        assert "-@all" in rules
        assert not {"allkeys", "allchannels", "allcommands", "+@all"} & set(rules)
        # Redis limits the size of what an unknown client sends, but not of what a user without password sends.
        assert "nopass" not in rules
        assert ("~*" in rules) == (name == "operator")
    assert {name for name, rules in users.items() if {"+evalsha", "+script|load"} & set(rules)} == {"gateway", "worker"}
    assert SERVICES["redis"]["healthcheck"]["test"] == ["CMD", "redis-cli", "--user", "operator", "-e", "ping"]
    assert f">{SERVICES['redis']['environment']['REDISCLI_AUTH']}" in users["operator"]


# Redis over TLS


def test_tls_is_for_everyone() -> None:
    overlay = yaml.safe_load(re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", (ROOT / "docker-compose.tls.yml").read_text()))
    services = overlay["services"]
    redis = services.pop("redis")
    entrypoint = redis["entrypoint"]
    assert entrypoint[0] == SERVICES["redis"]["entrypoint"][0]
    options = dict(zip(entrypoint[1::2], entrypoint[2::2], strict=True))
    assert (options["--port"], options["--tls-port"]) == ("0", "6379")
    # Options that the file does not name stay as they are, among them the users.
    assert "command" not in redis
    assert redis["healthcheck"]["test"][:2] == ["CMD", "redis-cli"] and "--tls" in redis["healthcheck"]["test"]
    assert set(services) == {name for name in SERVICES if networks(name) & networks("redis")} - {"redis"}
    for name, service in services.items():
        [(variable, url)] = service["environment"].items()
        plain, secured = urlsplit(SERVICES[name]["environment"][variable]), urlsplit(url)
        assert (secured.scheme, secured.netloc, secured.path) == ("rediss", plain.netloc, plain.path)
        asked = parse_qs(secured.query)
        assert asked["ssl_cert_reqs"] == ["required"]
        [volume] = service["volumes"]
        assert volume == f"./tls/ca.pem:{asked['ssl_ca_certs'][0]}:ro"


def test_redis_keeps_what_was_accepted() -> None:
    options = _redis_options()
    assert options["--appendonly"] == "yes"
    assert options["--appendfsync"] == "everysec"
    assert options["--maxmemory-policy"] == "noeviction"
    assert mounts("redis") == [("redis-data", "/data", "rw")]


def test_redis_runs_with_the_options_that_it_has_without_docker() -> None:
    [command] = [line for line in (ROOT / "Procfile").read_text().splitlines() if line.startswith("broker:")]
    words = shlex.split(command)
    alone = dict(zip(words[2::2], words[3::2], strict=True))
    inside = _redis_options()
    # Address, port, folder and log level differ on purpose.
    for name in ("--bind", "--port", "--dir", "--loglevel"):
        alone.pop(name)
        inside.pop(name, None)
    assert inside == alone


def test_redis_refuses_before_it_is_killed() -> None:
    assert _bytes(_redis_options()["--maxmemory"]) <= _bytes(SERVICES["redis"]["mem_limit"]) / 2


def _bytes(size: str) -> int:
    number, unit = re.fullmatch(r"(\d+)([mg])b?", size).groups()  # type: ignore[union-attr]
    return int(number) * {"m": 2**20, "g": 2**30}[unit]


def test_redis_is_a_patched_one() -> None:
    version = re.search(r"redis:(\d+)\.(\d+)\.(\d+)", SERVICES["redis"]["image"])
    assert version
    assert tuple(map(int, version.groups())) >= (8, 6, 3), "CVE-2026-23479"


def test_only_those_who_need_redis_reach_it() -> None:
    assert {name for name in SERVICES if networks(name) & networks("redis")} == {
        "redis",
        "gateway",
        "grpc",
        "worker",
        "operator",
        "celery-exporter",
    }
