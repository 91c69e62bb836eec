"""The chart itself: its version, the values that it takes and refuses, its notes."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from gateway.settings import GatewaySettings
from headrace.models.manifest import IDENTIFIER_PATTERN
from headrace.version import __version__
from shared.settings import CommonSettings
from tests.helm.releases import VALUES, each_release, environment, of_kind, release, values
from tests.support.helm import CHART, ChartRefusedError, objects, render
from worker.settings import WorkerSettings

SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text("utf-8"))
SMALLEST = {"redis": {"existing": {"secret": "headrace-redis"}}}
OF_THE_CHART = {
    "GATEWAY_HOST",
    "GATEWAY_PORT",
    "WORKER_METRICS_HOST",
    "WORKER_METRICS_PORT",
    "METRICS_OPEN",
    "API_KEYS_FILE",
    "MODEL_PUBLIC_KEY",
    "MODEL_CACHE_DIR",
    "MODEL_CACHE_MAX_BYTES",
}
"""Settings that are values of their own, or follow from others; beside those that each of the smallest release has."""


def test_the_versions_are_that_of_the_code() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))
    assert (chart["version"], chart["appVersion"]) == (__version__, __version__)
    images = {
        container["image"]
        for each in of_kind("smallest", "Deployment")
        for container in each["spec"]["template"]["spec"]["containers"]
    }
    assert images == {f"headrace-gateway:{__version__}", f"headrace-worker:{__version__}"}


def test_every_value_is_in_the_schema() -> None:
    """Check what Helm does not: that no default is unknown to the schema, or the other way round."""
    defaults = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
    assert set(defaults) == set(SCHEMA["properties"]) - {"global"}
    assert set(defaults["workerDefaults"]) == set(SCHEMA["definitions"]["worker"]["properties"])
    for name in ("models", "gateway", "redis", "networkPolicy", "monitoring", "images"):
        assert set(defaults[name]) == set(SCHEMA["properties"][name]["properties"])


@pytest.mark.parametrize(
    ("where", "settings"),
    [
        (SCHEMA["properties"]["settings"], CommonSettings),
        (SCHEMA["properties"]["gateway"]["properties"]["settings"], GatewaySettings),
        (SCHEMA["definitions"]["worker"]["properties"]["settings"], WorkerSettings),
        (SCHEMA["definitions"]["group"]["properties"]["settings"], WorkerSettings),
    ],
)
def test_settings_are_those_of_the_code(where: dict[str, Any], settings: type[CommonSettings]) -> None:
    chosen = {
        variable
        for each in of_kind("smallest", "Deployment")
        for variable in environment(each["spec"]["template"]["spec"]["containers"][0])
    } - set(values_of("settings"))
    known = {field.upper() for field in settings.model_fields}
    assert set(where["propertyNames"]["enum"]) == known - chosen - OF_THE_CHART


def values_of(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))[name]
    return found


def test_names_of_models_are_those_of_manifests() -> None:
    pattern = SCHEMA["definitions"]["worker"]["properties"]["models"]["items"]["pattern"]
    assert pattern == IDENTIFIER_PATTERN


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"redis": {"existing": {"secret": ""}}}, "/redis/existing/secret"),
        ({"redis": {"mode": "single"}}, "/redis/single/passwordsSecret"),
        ({"redis": {"mode": "cluster"}}, "/redis/mode"),
        ({"models": {"store": "url"}}, "/models/url/address"),
        ({"settings": {"REDIS_URL": "redis://elsewhere"}}, "REDIS_URL"),
        ({"settings": {"LOG_LEVLE": "INFO"}}, "LOG_LEVLE"),
        ({"gateway": {"settings": {"WORKER_CONCURRENCY": 2}}}, "WORKER_CONCURRENCY"),
        ({"workers": {"common": {"settings": {"GATEWAY_PORT": 80}}}}, "GATEWAY_PORT"),
        ({"workers": {"common": {"models": ["a b"]}}}, "/workers/common"),
        ({"workers": {"Heavy": {}}}, "Heavy"),
        ({"workers": {"common": {"drainSeconds": 0}}}, "/workers/common"),
        ({"workers": {"common": {"autoscaling": {"minReplicas": 0}}}}, "/workers/common"),
        ({"images": {"gateway": {"tag": "latest"}}}, "/images/gateway/tag"),
        ({"images": {"worker": {"digest": "sha256:12"}}}, "/images/worker/digest"),
        ({"replicas": 3}, "replicas"),
        ({"otel": {"TRACING": True}}, "TRACING"),
    ],
)
def test_wrong_values_are_refused_by_name(changed: dict[str, Any], named: str) -> None:
    with pytest.raises(ChartRefusedError, match=re.escape(named)):
        render({**SMALLEST, **changed})


def test_a_release_needs_its_redis_named() -> None:
    with pytest.raises(ChartRefusedError, match="/redis/existing/secret"):
        render({})


@each_release
def test_notes_say_the_first_request(name: str) -> None:
    [notes] = [text for file, text in render(values(name)).items() if file.endswith("NOTES.txt")]
    [service] = [each for each in of_kind(name, "Service") if each["metadata"]["name"].endswith("-gateway")]
    assert f"service/{service['metadata']['name']} 8000:{service['spec']['ports'][0]['port']} " in notes
    assert "curl -sS http://127.0.0.1:8000/" in notes
    assert ("There are no API keys" in notes) == (name != "production")
    assert ("sepal_length" in notes) == (name != "production")


TEXTS = {
    "production": (
        "images.gateway.repository images.worker.repository images.pullSecrets redis.existing.secret "
        "redis.existing.gatewayKey redis.existing.caSecret models.url.credentialsSecret "
        "models.publicKeysConfigMap gateway.apiKeysSecret monitoring.metricsKeySecret.name"
    ),
    "single-redis": (
        "images.redis.tag redis.single.passwordsSecret redis.single.storage.size redis.single.storage.storageClassName "
        "models.volume.storageClassName models.volume.size"
    ),
}
"""Values that may be any text."""


@pytest.mark.parametrize(
    "text", ["12", "x, injected: y", "x}, injected: {y: z", "x\n- injected: y", 'x", injected: "y', "&x y #"]
)
@pytest.mark.parametrize("name", TEXTS)
def test_texts_stay_texts(name: str, text: str) -> None:
    chosen, made = values(name), set()
    for number, path in enumerate(TEXTS[name].split()):
        *parents, last = path.split(".")
        place = chosen
        for each in parents:
            place = place.setdefault(each, {})
        made.add(f"{text}{number}")
        place[last] = [f"{text}{number}"] if last == "pullSecrets" else f"{text}{number}"
    if name == "production":
        chosen["images"]["worker"]["digest"] = ""

    found = {each for content in objects(chosen) for each in texts_in(content)}

    assert {each for each in made if not any(each in one for one in found)} == set()
    assert "injected" not in found


def test_names_that_are_numbers_stay_texts() -> None:
    chosen = {**SMALLEST, "workers": {"common": None, "7": {}}}
    labels = [each["metadata"]["labels"] for each in objects(chosen, "2026")]
    assert all(isinstance(value, str) for each in labels for value in each.values())
    assert "7" in {each.get("headrace/worker-group") for each in labels}


def texts_in(content: Any) -> Iterator[str]:
    """Yield all keys and texts."""
    if isinstance(content, dict):
        yield from content
    if isinstance(content, dict | list):
        for each in content.values() if isinstance(content, dict) else content:
            yield from texts_in(each)
    elif isinstance(content, str):
        yield content


def test_long_names_of_releases_fit() -> None:
    names = [each["metadata"]["name"] for each in objects(values("single-redis"), "a" * 53)]
    assert max(map(len, names)) <= 63


def test_a_changed_trainer_is_another_job() -> None:
    """Kubernetes refuses to change a job."""

    def job(**changed: Any) -> str:
        [found] = [each for each in objects({**SMALLEST, **changed}) if each["kind"] == "Job"]
        return str(found["metadata"]["name"])

    assert job() == job(gateway={"replicas": 5})
    assert len({job(), job(settings={"DEFAULT_MODEL": "wine"}), job(images={"worker": {"tag": "0.2"}})}) == 3


def test_a_claim_of_the_chart_outlives_the_release() -> None:
    [claim] = of_kind("smallest", "PersistentVolumeClaim")
    assert claim["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    assert not of_kind("own-groups", "PersistentVolumeClaim")
    assert "shared-models" in json.dumps(release("own-groups"))


def test_values_files_say_what_they_are_for() -> None:
    assert len(VALUES) >= 4
    assert all(path.read_text("utf-8").startswith("# ") for path in VALUES.values())
