"""The Dockerfiles against the code that they package."""

import importlib.util
import json
import re
from pathlib import Path

import pytest
import yaml

from gateway.settings import GatewaySettings
from headrace.exporting.artifact import SERVICE_PACKAGES
from shared.settings import CommonSettings
from worker.settings import WorkerSettings

ROOT = Path(__file__).parents[2]

SETTINGS: dict[str, type[CommonSettings]] = {
    "Dockerfile.gateway": GatewaySettings,
    "Dockerfile.worker": WorkerSettings,
}
PACKAGES = {
    "Dockerfile.gateway": {"gateway", "headrace", "shared"},
    "Dockerfile.worker": {"headrace", "shared", "training", "worker"},
}
PYTHONS_OWN = {"PYTHONDONTWRITEBYTECODE", "PYTHONFAULTHANDLER", "PYTHONUNBUFFERED"}

each_dockerfile = pytest.mark.parametrize("name", SETTINGS)


def instructions(name: str) -> list[tuple[str, str]]:
    """Return (instruction, arguments) of a Dockerfile, without comments, with continued lines joined."""
    lines = [line for line in (ROOT / name).read_text().splitlines() if line and not line.startswith("#")]
    joined = re.sub(r"\s*\\\n\s*", " ", "\n".join(lines))
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in joined.splitlines()]


def arguments_of(name: str, instruction: str) -> list[str]:
    return [arguments for what, arguments in instructions(name) if what == instruction]


def image_environment(name: str) -> dict[str, str]:
    """Return the environment that the image sets for the process inside."""
    pairs = [pair for arguments in arguments_of(name, "ENV") for pair in arguments.split()]
    return dict(pair.split("=", 1) for pair in pairs)


def copied(name: str) -> list[str]:
    """Return everything that is copied into the image, relative to the repository."""
    return [source for arguments in arguments_of(name, "COPY") for source in arguments.split()[:-1]]


@each_dockerfile
def test_base_is_pinned_and_its_python_can_be_chosen(name: str) -> None:
    assert arguments_of(name, "ARG")[0] == "PYTHON_VERSION=3.12"
    assert arguments_of(name, "FROM") == ["python:${PYTHON_VERSION}-slim-bookworm"]


@each_dockerfile
def test_what_is_copied_exists_and_reaches_the_builder(name: str) -> None:
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignore[1] == "*", "everything is left out unless it is named"
    for source in copied(name):
        assert (ROOT / source).exists()
        assert f"!{source}" in ignore


def test_nothing_else_reaches_the_builder() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    sources = {source for name in SETTINGS for source in copied(name)}
    assert {line[1:] for line in lines if line.startswith("!")} == sources


@each_dockerfile
def test_it_holds_the_packages_of_its_process_only(name: str) -> None:
    packages = {source.rstrip("/") for source in copied(name) if not source.startswith("requirements/")}
    assert packages == PACKAGES[name]


@each_dockerfile
def test_it_installs_what_the_lock_says_and_nothing_else(name: str) -> None:
    [lock] = [source for source in copied(name) if source.startswith("requirements/")]
    installs = [command for command in arguments_of(name, "RUN") if "install " in command and "pip" in command]
    assert len(installs) == (2 if name == "Dockerfile.worker" else 1)
    assert f"--requirement {lock}" in installs[0]
    assert "--require-hashes" in installs[0]
    assert "--no-cache-dir" in installs[0]


def test_libraries_of_own_models_change_no_version_of_the_lock() -> None:
    locked, extra = [run for run in arguments_of("Dockerfile.worker", "RUN") if "pip install" in run]
    assert extra.startswith(locked[: locked.index("pip install")]), "both have the secrets"
    assert '[ -z "$WORKER_EXTRA_PACKAGES" ] ||' in extra, "by default there are none"
    assert "pip freeze" in extra and "--constraint" in extra


def test_the_gateway_image_cannot_load_a_model() -> None:
    assert not {"scikit-learn", "numpy", "scipy", "joblib"} & _locked("gateway")
    assert {"scikit-learn", "numpy", "joblib"} <= _locked("worker")


def test_the_worker_image_has_no_web_framework() -> None:
    assert not {"fastapi", "starlette", "uvicorn"} & _locked("worker")


def _locked(name: str) -> set[str]:
    return set(re.findall(r"^([a-z0-9._-]+)==", (ROOT / "requirements" / f"{name}.txt").read_text(), re.MULTILINE))


@each_dockerfile
def test_a_clone_of_any_umask_gives_an_image_that_its_user_can_read(name: str) -> None:
    [workdir] = arguments_of(name, "WORKDIR")
    steps = instructions(name)

    opened = steps.index(("RUN", f"chmod -R u=rwX,go=rX {workdir}"))
    assert opened > max(position for position, (what, _) in enumerate(steps) if what == "COPY")


@each_dockerfile
def test_the_configuration_of_pip_is_a_secret_as_the_guide_says(name: str) -> None:
    install = next(run for run in arguments_of(name, "RUN") if "pip install" in run)
    secrets = dict(re.findall(r"--mount=type=secret,id=(\S+),target=(\S+)", install))
    assert secrets == {"pip.conf": "/etc/pip.conf", "ca.pem": "/run/secrets/ca.pem"}
    assert "required" not in install, "the build needs neither"

    guide = (ROOT / "docs" / "compose.md").read_text("utf-8").split("## Behind a mirror")[1]
    [configuration] = re.findall(r"```ini\n(.*?)```", guide, re.DOTALL)
    assert f"cert = {secrets['ca.pem']}\n" in configuration
    [override] = map(yaml.safe_load, re.findall(r"```yaml\n(.*?)```", guide, re.DOTALL))
    assert override["secrets"].keys() == secrets.keys()
    built = {
        key
        for key, service in yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"].items()
        if "build" in service
    }
    assert override["services"] == {service: {"build": {"secrets": list(secrets)}} for service in built}


@each_dockerfile
def test_it_does_not_run_as_root(name: str) -> None:
    assert arguments_of(name, "USER") == ["10001:10001"]
    order = [what for what, _ in instructions(name)]
    assert order.index("USER") > max(position for position, what in enumerate(order) if what in {"RUN", "COPY"})


@each_dockerfile
def test_a_new_models_volume_gets_the_right_owner(name: str) -> None:
    folder = image_environment(name)["MODEL_STORE"]
    assert any(f"install --directory --owner=10001 --group=10001 {folder}" in run for run in arguments_of(name, "RUN"))


@each_dockerfile
def test_its_environment_is_known_to_the_process(name: str) -> None:
    known = {field.upper() for field in SETTINGS[name].model_fields} | PYTHONS_OWN
    assert set(image_environment(name)) <= known


@each_dockerfile
def test_it_starts_a_module_without_a_shell_in_between(name: str) -> None:
    [command] = arguments_of(name, "CMD")
    python, flag, module = json.loads(command)
    assert (python, flag) == ("python", "-m")
    assert importlib.util.find_spec(f"{module}.__main__")
    assert not arguments_of(name, "ENTRYPOINT")


@pytest.mark.parametrize(
    ("name", "port", "host"),
    [
        ("Dockerfile.gateway", "gateway_port", "GATEWAY_HOST"),
        ("Dockerfile.worker", "worker_metrics_port", "WORKER_METRICS_HOST"),
    ],
)
def test_it_listens_for_others_on_the_port_that_it_exposes(name: str, port: str, host: str) -> None:
    assert arguments_of(name, "EXPOSE") == [str(SETTINGS[name].model_fields[port].default)]
    assert image_environment(name)[host] == "0.0.0.0"


@each_dockerfile
def test_the_command_line_is_on_path(name: str) -> None:
    [launcher] = [run for run in arguments_of(name, "RUN") if "/usr/local/bin/headrace" in run]

    assert 'PYTHONPATH="/app${PYTHONPATH:+:$PYTHONPATH}" exec python -m headrace' in launcher
    assert "chmod 755 /usr/local/bin/headrace" in launcher


def test_metrics_files_are_not_set_up_by_the_image() -> None:
    """Check this because the trainer and other commands in the container would leave files that count for ever."""
    assert "PROMETHEUS_MULTIPROC_DIR" not in image_environment("Dockerfile.worker")


def guide(language: str, containing: str) -> str:
    """Return the block of the guide on Compose that holds a text."""
    document = (ROOT / "docs/compose.md").read_text("utf-8")
    blocks: list[str] = re.findall(rf"```{language}\n(.*?)```", document, re.DOTALL)
    [block] = [each for each in blocks if containing in each]
    return block


def test_modules_that_the_guide_mounts_are_where_workers_look_for_them() -> None:
    override = yaml.safe_load(guide("yaml", "PYTHONPATH"))["services"]

    assert override.keys() == {"trainer", "worker"}, "all who load models"
    for service in override.values():
        [(source, target)] = [each.removesuffix(":ro").split(":") for each in service["volumes"]]
        assert (source, service["environment"]) == ("./modules", {"PYTHONPATH": target})


def test_a_store_that_the_guide_mounts_takes_the_place_of_the_volume() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    override = yaml.safe_load(guide("yaml", "./models:/models"))["services"]

    users = {
        name: [each for each in service.get("volumes", []) if each.startswith("models:")]
        for name, service in services.items()
    }
    assert {name: service["volumes"] for name, service in override.items()} == {
        name: [f"./{each}" for each in volumes] for name, volumes in users.items() if volumes
    }


def test_a_store_in_a_bucket_is_reached_by_all_who_read_it_and_cached_where_the_user_may_write() -> None:
    class Loader(yaml.SafeLoader):
        """A loader that knows the tag by which Compose removes a value."""

    Loader.add_constructor("!reset", lambda *_: None)
    base = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    overlay = yaml.load((ROOT / "docker-compose.s3.yml").read_text(), Loader)
    services = overlay["services"]

    assert services.keys() == {name for name, each in base["services"].items() if "models:" in str(each.get("volumes"))}
    for name, service in services.items():
        ways = [*base["services"][name].get("networks", []), *service.get("networks", [])]
        declared = {**base["networks"], **overlay["networks"]}
        assert any(not (declared[each] or {}).get("internal") for each in ways), f"{name} can't reach the bucket"
        assert all(service["environment"][each] is None for each in overlay["x-bucket"]), "no value of its own"
    assert services["trainer"]["network_mode"] is None
    [volume] = services["worker"]["volumes"]
    source, target = volume.split(":")
    assert source in overlay["volumes"]
    assert services["worker"]["environment"]["MODEL_CACHE_DIR"] == target
    assert any(
        f"--owner=10001 --group=10001 /models {target}" in run for run in arguments_of("Dockerfile.worker", "RUN")
    )


def test_an_image_of_your_own_is_the_workers_with_modules_beside_its_packages() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    lines = [line.split() for line in guide("dockerfile", "FROM").splitlines() if not line.startswith("#")]
    steps = [(words[0], words[1:]) for words in lines]

    assert steps[0] == ("FROM", [compose["worker"]["image"]])
    [workdir] = arguments_of("Dockerfile.worker", "WORKDIR")
    assert ("COPY", ["modules/", f"{workdir}/"]) in steps
    assert steps[-1] == ("USER", arguments_of("Dockerfile.worker", "USER"))


def test_no_module_of_an_exporter_can_be_named_like_a_package_of_the_service() -> None:
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}

    assert packages == SERVICE_PACKAGES
