"""The chart's processes against the code: settings, ports, probes, grace periods, and Compose."""

import re
from typing import Any

import pytest

from gateway.__main__ import GRACEFUL_SECONDS
from gateway.readiness import ANSWER_SECONDS
from gateway.settings import GatewaySettings
from headrace.cli import service_commands
from shared.settings import CommonSettings
from tests.architecture.test_compose import METRICS_PORT, SERVICES
from tests.architecture.test_dockerfiles import arguments_of, image_environment
from tests.helm.releases import containers, each_release, environment, of_kind, pods, the
from worker.settings import WorkerSettings

SETTINGS: dict[str, type[CommonSettings]] = {
    "gateway": GatewaySettings,
    "trainer": CommonSettings,
    "worker": WorkerSettings,
}
IMAGES = {"gateway": "Dockerfile.gateway", "trainer": "Dockerfile.worker", "worker": "Dockerfile.worker"}
PORTS = {"gateway": GatewaySettings.model_fields["gateway_port"].default, "worker": METRICS_PORT}
CHILDREN_BYTES = 150_000_000
"""Memory of a pool child's libraries, as values.yaml says."""


def ours(name: str) -> list[tuple[str, dict[str, Any]]]:
    return [(component, container) for component, container in containers(name) if component in SETTINGS]


@each_release
def test_the_process_accepts_its_environment(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for component, container in ours(name):
        with monkeypatch.context() as patch:
            for variable, value in {**image_environment(IMAGES[component]), **environment(container)}.items():
                if isinstance(value, str):
                    # Kubernetes puts the password in.
                    patch.setenv(variable, value.replace("$(REDIS_PASSWORD)", "secret"))
            SETTINGS[component]()


@each_release
def test_variables_are_settings(name: str) -> None:
    for component, container in ours(name):
        fields = {field.upper() for field in SETTINGS[component].model_fields}
        standard = {variable for variable in environment(container) if variable.startswith("OTEL_")}
        assert set(environment(container)) - standard - {"REDIS_PASSWORD"} <= fields


@each_release
def test_they_run_as_the_user_of_their_image(name: str) -> None:
    for component, _, spec in pods(name):
        if component in IMAGES:
            context = spec["securityContext"]
            assert [f"{context['runAsUser']}:{context['runAsGroup']}"] == arguments_of(IMAGES[component], "USER")


@each_release
def test_ports_are_those_of_the_code(name: str) -> None:
    for component, container in ours(name):
        ports = [port["containerPort"] for port in container.get("ports", [])]
        assert ports == ([PORTS[component]] if component in PORTS else [])
        if component in PORTS:
            # The default address is loopback: the image says otherwise.
            assert image_environment(IMAGES[component])[f"{_prefix(component)}_HOST"] == "0.0.0.0"
            assert f"{_prefix(component)}_PORT" not in environment(container)


def _prefix(component: str) -> str:
    return {"gateway": "GATEWAY", "worker": "WORKER_METRICS"}[component]


@each_release
def test_probes_ask_by_http(name: str) -> None:
    for component, container in ours(name):
        paths = {probe: container[probe]["httpGet"]["path"] for probe in container if probe.endswith("Probe")}
        assert (
            paths
            == {
                "gateway": {"livenessProbe": "/livez", "readinessProbe": "/readyz", "startupProbe": "/livez"},
                "worker": dict.fromkeys(["livenessProbe", "readinessProbe", "startupProbe"], "/metrics"),
                "trainer": {},
            }[component]
        )
        names = {port["name"] for port in container.get("ports", [])}
        assert all(container[probe]["httpGet"]["port"] in names for probe in paths)
    for component, container in ours(name):
        if component == "gateway":
            assert container["readinessProbe"]["timeoutSeconds"] > ANSWER_SECONDS


@each_release
def test_running_work_may_finish(name: str) -> None:
    for component, _, spec in pods(name):
        grace = spec.get("terminationGracePeriodSeconds", 0)
        [container] = spec["containers"]
        if component == "gateway":
            [_, waiting] = container["lifecycle"]["preStop"]["exec"]["command"]
            assert grace > int(waiting) + GRACEFUL_SECONDS
        elif component == "worker":
            drain_seconds = float(environment(container)["WORKER_DRAIN_SECONDS"])
            assert grace > drain_seconds + 10
            assert "lifecycle" not in container, "a worker takes nothing more from the signal on"


def test_a_longer_drain_gets_a_longer_grace() -> None:
    spec = the("production", "Deployment", "-worker-heavy")["spec"]["template"]["spec"]
    assert spec["terminationGracePeriodSeconds"] == 80
    assert environment(spec["containers"][0])["WORKER_DRAIN_SECONDS"] == "60"


def test_defaults_are_those_of_the_code() -> None:
    spec = the("smallest", "Deployment", "-worker-common")["spec"]["template"]["spec"]
    drain_seconds = WorkerSettings.model_fields["worker_drain_seconds"].default
    assert float(environment(spec["containers"][0])["WORKER_DRAIN_SECONDS"]) == drain_seconds


@each_release
def test_models_fit_into_memory(name: str) -> None:
    for component, container in ours(name):
        if component == "worker":
            variables = environment(container)
            children = int(variables["WORKER_CONCURRENCY"])
            needed = children * (int(variables["WORKER_MEMORY_BUDGET_BYTES"]) + CHILDREN_BYTES) + 64 * 2**20
            assert needed <= _bytes(container["resources"]["limits"]["memory"])
            assert children == float(container["resources"]["limits"]["cpu"])


def _bytes(quantity: str) -> int:
    number, unit = re.fullmatch(r"(\d+)([MG])i", quantity).groups()  # type: ignore[union-attr]
    return int(number) * {"M": 2**20, "G": 2**30}[unit]


def test_large_numbers_and_false_arrive_as_they_are() -> None:
    gateway = environment(the("production", "Deployment", "-gateway")["spec"]["template"]["spec"]["containers"][0])
    assert gateway["BODY_MAX_BYTES"] == "50000000"
    assert gateway["TRACING"] == "false", "the gateway's own, though all have true"
    assert gateway["OTEL_TRACES_SAMPLER_ARG"] == "0.1"
    common = environment(the("production", "Deployment", "-worker-common")["spec"]["template"]["spec"]["containers"][0])
    assert (common["TRACING"], common["WORKER_INTERACTIVE_SLOTS"]) == ("true", "0")
    assert the("own-groups", "Deployment", "-worker-wine")["spec"]["replicas"] == 0


@pytest.mark.parametrize(
    ("name", "least"), [("smallest", 1), ("production", 4), ("single-redis", 1), ("own-groups", 2)]
)
def test_an_alert_fires_below_the_least_number_of_workers(name: str, least: int) -> None:
    [gateway] = [container for component, container in ours(name) if component == "gateway"]
    assert environment(gateway)["WORKERS"] == str(least)


def test_groups_are_pinned_and_named() -> None:
    heavy = the("production", "Deployment", "-worker-heavy")
    assert environment(heavy["spec"]["template"]["spec"]["containers"][0])["WORKER_MODELS"] == "churn,fraud"
    assert heavy["spec"]["selector"]["matchLabels"]["headrace/worker-group"] == "heavy"
    groups = [each["metadata"]["name"] for each in of_kind("own-groups", "Deployment")]
    assert groups == ["demo-headrace-gateway", "demo-headrace-worker-rest", "demo-headrace-worker-wine"]


def test_the_trainer_runs_the_command_of_compose() -> None:
    [container] = the("smallest", "Job")["spec"]["template"]["spec"]["containers"]
    assert container["command"] == SERVICES["trainer"]["command"]
    assert container["command"][1] in service_commands.COMMANDS


def test_the_model_store_is_where_each_looks_for_it() -> None:
    for _, container in ours("smallest"):
        [mount] = [mount for mount in container["volumeMounts"] if mount["name"] == "models"]
        assert environment(container)["MODEL_STORE"] == mount["mountPath"]
    for component, container in ours("production"):
        assert environment(container)["MODEL_STORE"] == "s3://models/production"
        assert container["envFrom"] == [{"secretRef": {"name": "headrace-s3"}}]
        if component == "worker":
            [mount] = [mount for mount in container["volumeMounts"] if mount["name"] == "cache"]
            assert environment(container)["MODEL_CACHE_DIR"] == mount["mountPath"]


@each_release
def test_metrics_files_of_a_worker_are_its_own(name: str) -> None:
    for component, _, spec in pods(name):
        [container] = spec["containers"]
        folder = environment(container).get("PROMETHEUS_MULTIPROC_DIR")
        assert (folder is not None) == (component == "worker")
        if folder:
            [mount] = [mount["name"] for mount in container["volumeMounts"] if mount["mountPath"] == folder]
            [volume] = [volume for volume in spec["volumes"] if volume["name"] == mount]
            assert volume["emptyDir"]["medium"] == "Memory"


def test_files_that_settings_name_are_mounted() -> None:
    named = {"API_KEYS_FILE": "api-keys", "MODEL_PUBLIC_KEY": "public-keys"}
    found = set()
    for _, container in ours("production"):
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert mounts["redis-ca"] == "/tls"
        for variable, volume in named.items():
            if variable in environment(container):
                found.add(variable)
                assert environment(container)[variable].startswith(f"{mounts[volume]}/")
    assert found == set(named)


# The Redis of the chart


def test_redis_is_that_of_compose() -> None:
    """Compare options and users; the exporter's user is Compose's alone, as there is no exporter in the chart."""
    [container] = the("single-redis", "StatefulSet")["spec"]["template"]["spec"]["containers"]
    passwords = {"GATEWAY_PASSWORD": "gateway", "WORKER_PASSWORD": "worker", "REDISCLI_AUTH": "operator"}
    keys = {name: value["secretKeyRef"]["key"] for name, value in environment(container).items()}
    assert keys == passwords
    inside = [
        " ".join(re.sub(r"\$\((\w+)\)", lambda found: passwords[found[1]], word).split()) for word in container["args"]
    ]
    folder = inside.index("--dir")
    assert inside[folder + 1] in {mount["mountPath"] for mount in container["volumeMounts"]}
    del inside[folder : folder + 2]
    compose = [" ".join(word.split()) for word in SERVICES["redis"]["command"]]
    assert inside == [word for word in compose if not word.startswith("--user exporter ")]
    assert container["command"] == SERVICES["redis"]["entrypoint"]
    assert container["image"] == SERVICES["redis"]["image"]
    assert container["readinessProbe"]["exec"]["command"] == SERVICES["redis"]["healthcheck"]["test"][1:]


def test_redis_keeps_what_was_accepted() -> None:
    owner = the("single-redis", "StatefulSet")
    [claim] = owner["spec"]["volumeClaimTemplates"]
    assert claim["metadata"]["name"] == "data"
    context = owner["spec"]["template"]["spec"]["securityContext"]
    assert f"{context['runAsUser']}:{context['runAsGroup']}" == SERVICES["redis"]["user"]


def test_clients_find_redis_by_the_name_of_its_service() -> None:
    service = the("single-redis", "Service", "-redis")
    assert [port["port"] for port in service["spec"]["ports"]] == [6379]
    for component in ("gateway", "worker"):
        for found, container in ours("single-redis"):
            if found == component:
                host = service["metadata"]["name"]
                assert environment(container)["REDIS_URL"] == f"redis://{component}:$(REDIS_PASSWORD)@{host}:6379/0"


def test_urls_of_an_existing_redis_come_from_its_secret() -> None:
    for component, container in ours("production"):
        assert environment(container)["REDIS_URL"] == {
            "secretKeyRef": {"name": "headrace-redis", "key": f"{component}-url"}
        }
