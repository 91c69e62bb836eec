"""`Dockerfile.serve`, and the pages on SageMaker and KServe that use its image, against the code."""

import importlib.util
import re
from pathlib import Path

import yaml
from starlette.routing import Match

from gateway.app import create_app
from gateway.settings import GatewaySettings
from scripts.serve import DEFAULTS
from tests.support.manifests import classifier, stored
from worker.settings import WorkerSettings

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile.serve").read_text()
KSERVE = (ROOT / "docs/kserve.md").read_text()
SAGEMAKER = (ROOT / "docs/sagemaker.md").read_text()
[RUNTIME, SERVICE] = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", KSERVE, re.DOTALL)]
[CONTAINER] = RUNTIME["spec"]["containers"]
ENVIRONMENT = {each["name"]: each["value"] for each in CONTAINER["env"]}
SETTINGS = {name.upper() for settings in (GatewaySettings, WorkerSettings) for name in settings.model_fields}


def lines_of(instruction: str) -> list[str]:
    return re.findall(rf"^{instruction} (.+)$", DOCKERFILE, re.MULTILINE)


def test_nothing_but_what_is_copied_reaches_the_builder() -> None:
    ignored = (ROOT / "Dockerfile.serve.dockerignore").read_text().splitlines()
    sources = {source for line in lines_of("COPY") for source in line.split()[:-1]}

    assert ignored[1] == "*"
    assert {line[1:] for line in ignored if line.startswith("!")} == sources
    assert all((ROOT / source).exists() for source in sources)


def test_it_is_built_like_the_other_images() -> None:
    other = (ROOT / "Dockerfile.gateway").read_text()

    for instruction in ("ARG", "FROM", "USER", "WORKDIR"):
        assert lines_of(instruction) == re.findall(rf"^{instruction} (.+)$", other, re.MULTILINE)
    assert "--require-hashes" in DOCKERFILE
    assert "--requirement requirements/runtime.txt" in DOCKERFILE


def test_the_command_serve_runs_the_module_on_the_port_that_is_exposed() -> None:
    [module] = re.findall(r"exec python -m ([\w.]+)", DOCKERFILE)

    assert importlib.util.find_spec(module)
    assert "chmod 755 /usr/local/bin/serve" in DOCKERFILE
    assert lines_of("CMD") == ['["serve"]']
    assert lines_of("EXPOSE") == [DEFAULTS["GATEWAY_PORT"]]


def test_the_page_on_sagemaker_has_the_defaults() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| `(.+)` \|$", SAGEMAKER, re.MULTILINE))
    [port] = re.findall(r"-p 127.0.0.1:\d+:(\d+)", SAGEMAKER)

    assert rows == DEFAULTS
    assert port == DEFAULTS["GATEWAY_PORT"]
    assert f"/models:{DEFAULTS['MODEL_STORE']}:ro" in SAGEMAKER
    seconds = GatewaySettings.model_fields["predict_deadline_seconds"].default
    assert f"given up after {seconds:g} s, or `PREDICT_DEADLINE_SECONDS`" in SAGEMAKER
    assert GatewaySettings.model_fields["wait_max_seconds"].default <= 60


def test_the_runtime_of_kserve_sets_what_the_processes_read() -> None:
    port = int(ENVIRONMENT["GATEWAY_PORT"])

    assert ENVIRONMENT.keys() <= SETTINGS
    assert CONTAINER["command"] == ["serve"]
    assert [each["containerPort"] for each in CONTAINER["ports"]] == [port]
    assert {CONTAINER[f"{kind}Probe"]["httpGet"]["port"] for kind in ("readiness", "liveness")} == {port}
    assert RUNTIME["spec"]["annotations"]["prometheus.kserve.io/port"] == str(port)
    assert CONTAINER["resources"]["limits"]["cpu"] == ENVIRONMENT["WORKER_CONCURRENCY"]
    [user] = lines_of("USER")
    assert user.startswith(f"{CONTAINER['securityContext']['runAsUser']}:")
    assert f"-t {CONTAINER['image']} " in KSERVE


def test_the_service_of_kserve_uses_the_runtime_and_shows_a_model_of_its_name() -> None:
    model = SERVICE["spec"]["predictor"]["model"]

    assert model["modelFormat"]["name"] in [each["name"] for each in RUNTIME["spec"]["supportedModelFormats"]]
    assert model["protocolVersion"] in RUNTIME["spec"]["protocolVersions"]
    assert ENVIRONMENT["DEFAULT_MODEL"] == "{{.Name}}"
    assert f"`{SERVICE['metadata']['name']}/v1/`" in KSERVE


def test_the_pages_name_routes_of_the_gateway(tmp_path: Path) -> None:
    stored(tmp_path, classifier())
    app = create_app(GatewaySettings(model_store=str(tmp_path), default_model="sticks"))

    def answers(method: str, path: str) -> bool:
        scope = {"type": "http", "method": method, "path": path.replace("{name}", "sticks"), "root_path": ""}
        return any(route.matches(scope)[0] == Match.FULL for route in app.routes)

    assert not answers("GET", "/invocations")
    for path in (*(CONTAINER[f"{kind}Probe"]["httpGet"]["path"] for kind in ("readiness", "liveness")), "/ping"):
        assert answers("GET", path), path
    assert answers("GET", RUNTIME["spec"]["annotations"]["prometheus.kserve.io/path"])
    assert answers("POST", "/invocations")
    by_protocol = {"v1": "/v1/models/{name}:predict", "v2": "/v2/models/{name}/infer"}
    for protocol in RUNTIME["spec"]["protocolVersions"]:
        assert answers("POST", by_protocol[protocol])
        assert f"`{by_protocol[protocol]}`" in KSERVE
