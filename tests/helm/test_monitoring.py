"""The chart's monitoring: the rules and dashboards of Compose, under the labels that they expect."""

import json
from typing import Any

import pytest
import yaml

from monitoring.rules import __main__ as rules
from monitoring.rules.alerts_platform import SAMPLE_LIMIT
from monitoring.rules.scaling import WANTED
from tests.helm.releases import environment, of_kind, pods, the, values
from tests.support.helm import CHART, ChartRefusedError, objects, render


def test_rules_are_those_of_compose() -> None:
    """tests/monitoring holds both folders to the source."""
    made = {each["metadata"]["name"]: each["spec"] for each in of_kind("production", "PrometheusRule")}
    assert made == {
        f"demo-headrace-{name.removesuffix('.yml').replace('_', '-')}": yaml.safe_load(rules.dump(make()))
        for name, make in rules.FILES.items()
    }


def test_dashboards_are_those_of_compose() -> None:
    files = {path.name: path for path in (CHART / "files/dashboards").iterdir()}
    maps = [each for each in of_kind("production", "ConfigMap") if "-dashboard-" in each["metadata"]["name"]]
    found = {name: text for each in maps for name, text in each["data"].items()}
    assert set(found) == {f"headrace-{name}" for name in files}
    for name, path in files.items():
        assert json.loads(found[f"headrace-{name}"]) == json.loads(path.read_text("utf-8"))
    assert all(each["metadata"]["labels"]["grafana_dashboard"] == "1" for each in maps)
    # A ConfigMap has 1 MiB at most.
    assert all(len(text.encode()) < 2**20 for text in found.values())


def test_a_cluster_without_operators_gets_none_of_their_objects() -> None:
    assert not of_kind("smallest", "PodMonitor", "PrometheusRule", "ScaledObject", "ConfigMap")


def test_every_pod_with_metrics_is_scraped_under_the_name_that_rules_expect() -> None:
    monitors = of_kind("production", "PodMonitor")
    jobs = {}
    for monitor in monitors:
        spec = monitor["spec"]
        [endpoint] = spec["podMetricsEndpoints"]
        assert spec["sampleLimit"] == SAMPLE_LIMIT
        assert monitor["metadata"]["labels"]["release"] == "kube-prometheus-stack"
        for component, labels, pod in pods("production"):
            if all(labels.get(key) == value for key, value in spec["selector"]["matchLabels"].items()):
                jobs[component] = labels[spec["jobLabel"]]
                ports = [port["name"] for port in pod["containers"][0]["ports"]]
                assert (endpoint["port"], endpoint["path"]) == (ports[0], "/metrics")
    assert jobs == {"gateway": "gateway", "worker": "worker"}


def test_prometheus_shows_a_key_where_there_are_keys() -> None:
    [gateway, worker] = [the("production", "PodMonitor", f"-{name}")["spec"] for name in ("gateway", "worker")]
    [endpoint] = gateway["podMetricsEndpoints"]
    assert endpoint["authorization"]["credentials"] == {"name": "headrace-metrics-key", "key": "key"}
    assert "authorization" not in worker["podMetricsEndpoints"][0]
    container = the("production", "Deployment", "-gateway")["spec"]["template"]["spec"]["containers"][0]
    assert "METRICS_OPEN" not in environment(container)


def scaler(group: str) -> dict[str, Any]:
    spec: dict[str, Any] = the("production", "ScaledObject", f"-worker-{group}")["spec"]
    return spec


def test_keda_asks_for_the_recorded_signal_of_the_group() -> None:
    relabeled = {
        each["targetLabel"]: each["sourceLabels"]
        for each in the("production", "PodMonitor", "-worker")["spec"]["podMetricsEndpoints"][0]["relabelings"]
    }
    # The pods' label `headrace/worker-group`, as Prometheus writes it.
    assert relabeled["worker_group"] == ["__meta_kubernetes_pod_label_headrace_worker_group"]
    for group in ("common", "heavy"):
        [trigger] = scaler(group)["triggers"]
        assert trigger["metadata"]["query"] == f'max({WANTED}{{namespace="serving", worker_group="{group}"}})'
        # The signal is a number of workers, so each is worth 1.
        assert (trigger["metricType"], trigger["metadata"]["threshold"]) == ("AverageValue", "1")


def test_keda_does_not_take_silence_for_idleness() -> None:
    for group, most in (("common", 8), ("heavy", 3)):
        spec = scaler(group)
        assert spec["triggers"][0]["metadata"]["ignoreNullValues"] == "false"
        assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (2, most)
        assert spec["fallback"] == {"failureThreshold": 3, "replicas": 2, "behavior": "currentReplicasIfHigher"}
        behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
        assert behavior["scaleDown"]["stabilizationWindowSeconds"] == 600


def test_keda_may_ask_the_gateway_instead() -> None:
    autoscaling = {"type": "keda", "trigger": "metrics-api"}
    given = {
        **values("smallest"),
        "workerDefaults": {"autoscaling": autoscaling},
        "workers": {"common": {}, "heavy": {"models": ["churn", "fraud"]}},
    }
    keyed = {"gateway": {"apiKeysSecret": "keys"}, "monitoring": {"metricsKeySecret": {"name": "metrics-key"}}}
    is_open = {"gateway": {"apiKeysSecret": "keys", "metricsOpen": True}}
    for extra in ({}, keyed, is_open):
        made = {(each["kind"], each["metadata"]["name"]): each.get("spec", {}) for each in objects({**given, **extra})}
        port = made["Service", "demo-headrace-gateway"]["ports"][0]["port"]
        for group, models in (("common", ""), ("heavy", "churn,fraud")):
            name = f"demo-headrace-worker-{group}"
            [trigger] = made["ScaledObject", name]["triggers"]
            metadata = trigger["metadata"]
            assert metadata["url"] == f"http://demo-headrace-gateway.serving.svc:{port}/scaling?models={models}"
            assert metadata["valueLocation"] == "worker_groups.0.wanted_workers"
            assert (trigger["type"], trigger["metricType"]) == ("metrics-api", "AverageValue")
            assert metadata["targetValue"] == "1"
            assert (("TriggerAuthentication", name) in made) == ("authenticationRef" in trigger) == (extra is keyed)
            if extra is keyed:
                assert (metadata["authMode"], trigger["authenticationRef"]) == ("bearer", {"name": name})
                [secret] = made["TriggerAuthentication", name]["secretTargetRef"]
                assert secret == {"parameter": "token", "name": "metrics-key", "key": "key"}
    with pytest.raises(ChartRefusedError, match="metricsKeySecret"):
        render({**given, "gateway": {"apiKeysSecret": "keys"}})


def test_a_plain_autoscaler_is_the_alternative() -> None:
    spec = the("single-redis", "HorizontalPodAutoscaler", "-worker-common")["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (1, 3)
    assert spec["behavior"]["scaleDown"]["stabilizationWindowSeconds"] == 600
