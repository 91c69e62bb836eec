"""Rules that hold for every release: accepted by Kubernetes, restricted, bounded, with secrets by name only."""

import re
from typing import Any

import kubernetes_validate
import pytest

from tests.helm.releases import containers, each_release, environment, of_kind, owners, pods, release, the
from tests.support.helm import NAMESPACE

CUSTOM = {"monitoring.coreos.com/v1", "keda.sh/v1alpha1"}
"""Kinds of other operators, for which Kubernetes has no schema."""


@each_release
@pytest.mark.parametrize("version", ["1.29", "1.37"])
def test_kubernetes_accepts_every_object(name: str, version: str) -> None:
    checked = [each for each in release(name) if each["apiVersion"] not in CUSTOM]
    assert len(checked) > 5
    for each in checked:
        kubernetes_validate.validate(each, version, strict=True)


@each_release
def test_names_are_unique_and_fit(name: str) -> None:
    names = [(each["kind"], each["metadata"]["name"]) for each in release(name)]
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"[a-z0-9][-a-z0-9]{0,61}[a-z0-9]", text) for _, text in names)


@each_release
def test_no_process_has_more_rights_than_it_needs(name: str) -> None:
    for _, _, spec in pods(name):
        context = spec["securityContext"]
        assert context["runAsNonRoot"] is True
        assert min(context["runAsUser"], context["runAsGroup"], context["fsGroup"]) > 0
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
        assert all(
            set(volume) & {"emptyDir", "persistentVolumeClaim", "secret", "configMap"} for volume in spec["volumes"]
        )
    for _, container in containers(name):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert not any("hostPort" in port for port in container.get("ports", []))


@each_release
def test_no_process_can_ask_the_cluster(name: str) -> None:
    assert the(name, "ServiceAccount")["automountServiceAccountToken"] is False
    for _, _, spec in pods(name):
        assert spec["automountServiceAccountToken"] is False
        assert spec["serviceAccountName"] == the(name, "ServiceAccount")["metadata"]["name"]
    assert not of_kind(name, "Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding")


@each_release
def test_services_set_no_variables(name: str) -> None:
    """A service of the name `gateway` would set GATEWAY_PORT, to a URL."""
    assert all(spec["enableServiceLinks"] is False for _, _, spec in pods(name))


@each_release
def test_images_are_pinned(name: str) -> None:
    for _, container in containers(name):
        _, _, tag = container["image"].rpartition("/")[2].partition(":")
        assert tag and tag != "latest"


@each_release
def test_everything_is_bounded(name: str) -> None:
    for _, container in containers(name):
        for bound in ("requests", "limits"):
            assert set(container["resources"][bound]) >= {"cpu", "memory"}
    for _, _, spec in pods(name):
        assert all(volume["emptyDir"]["sizeLimit"] for volume in spec["volumes"] if "emptyDir" in volume)


@each_release
def test_what_is_mounted_exists(name: str) -> None:
    for _, _, spec in pods(name):
        volumes = {volume["name"] for volume in spec["volumes"]}
        [container] = spec["containers"]
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted - {"data"} == volumes, "mounted and declared"
        assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"]}


@each_release
def test_secrets_are_named_and_never_written(name: str) -> None:
    assert not of_kind(name, "Secret")
    for _, container in containers(name):
        for variable, value in environment(container).items():
            if re.search(r"PASSWORD|AUTH|SECRET|TOKEN", variable):
                assert set(value) == {"secretKeyRef"}
            if variable == "REDIS_URL" and isinstance(value, str):
                assert re.fullmatch(r"redis://(gateway|worker):\$\(REDIS_PASSWORD\)@[-a-z]+:6379/0", value)


@each_release
def test_only_the_trainer_writes_models(name: str) -> None:
    for component, container in containers(name):
        for mount in container["volumeMounts"]:
            if mount["name"] == "models":
                assert mount.get("readOnly", False) == (component != "trainer")
            elif mount["name"] not in {"tmp", "data", "counts", "cache"}:
                assert mount["readOnly"] is True


def _selected(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    return all(labels.get(key) == value for key, value in selector["matchLabels"].items())


@each_release
def test_selectors_select_their_own_pods_only(name: str) -> None:
    for owner in owners(name):
        if owner["kind"] == "Job":
            continue
        found = [component for component, labels, _ in pods(name) if _selected(owner["spec"]["selector"], labels)]
        assert len(found) == 1
    for service in of_kind(name, "Service"):
        [component] = [
            component
            for component, labels, _ in pods(name)
            if _selected({"matchLabels": service["spec"]["selector"]}, labels)
        ]
        assert service["metadata"]["name"].endswith(component)


@each_release
def test_evictions_leave_most_pods(name: str) -> None:
    for owner in of_kind(name, "Deployment"):
        budget = the(name, "PodDisruptionBudget", owner["metadata"]["name"])
        assert budget["spec"] == {"maxUnavailable": 1, "selector": owner["spec"]["selector"]}
        spread = owner["spec"]["template"]["spec"]["topologySpreadConstraints"]
        assert {each["topologyKey"] for each in spread} == {"topology.kubernetes.io/zone", "kubernetes.io/hostname"}
        assert all(each["labelSelector"] == owner["spec"]["selector"] for each in spread)


@each_release
def test_an_autoscaler_owns_the_number_of_pods(name: str) -> None:
    scaled = [
        each["spec"]["scaleTargetRef"]["name"] for each in of_kind(name, "HorizontalPodAutoscaler", "ScaledObject")
    ]
    assert len(scaled) == len(set(scaled))
    for owner in of_kind(name, "Deployment"):
        assert ("replicas" in owner["spec"]) == (owner["metadata"]["name"] not in scaled)


@each_release
def test_every_pod_has_a_policy_of_its_own_unless_they_are_off(name: str) -> None:
    policies = of_kind(name, "NetworkPolicy")
    if name == "own-groups":
        assert not policies
        return
    for _, labels, _ in pods(name):
        [policy] = [each for each in policies if _selected(each["spec"]["podSelector"], labels)]
        assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
        # A rule without peers or ports would allow all of them.
        assert all(rule["from"] and rule["ports"] for rule in policy["spec"]["ingress"])
        assert all(rule["ports"] for rule in policy["spec"]["egress"])


def test_the_trainer_reaches_nobody_and_nobody_reaches_it() -> None:
    spec = the("single-redis", "NetworkPolicy", "-trainer")["spec"]
    assert (spec["ingress"], spec["egress"]) == ([], [])


def test_redis_is_for_its_clients_and_goes_nowhere() -> None:
    spec = the("single-redis", "NetworkPolicy", "-redis")["spec"]
    [rule] = spec["ingress"]
    peers = [peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"] for peer in rule["from"]]
    assert peers == ["gateway", "worker"]
    assert spec["egress"] == []


def test_clients_reach_redis_where_it_is() -> None:
    for component in ("gateway", "worker"):
        inside = the("single-redis", "NetworkPolicy", f"-{component}")["spec"]["egress"]
        assert [rule["ports"][0]["port"] for rule in inside] == [53, "redis"]
        outside = the("production", "NetworkPolicy", f"-{component}")["spec"]["egress"]
        assert [rule["ports"][0]["port"] for rule in outside] == [53, 6380, 443, 4318]
        assert outside[1]["to"] == [{"ipBlock": {"cidr": "10.1.0.0/24"}}]


def test_nobody_but_prometheus_reaches_a_worker() -> None:
    [rule] = the("production", "NetworkPolicy", "-worker")["spec"]["ingress"]
    assert rule["ports"] == [{"protocol": "TCP", "port": "metrics"}]
    assert rule["from"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]


def test_objects_name_no_namespace_but_the_signal_does() -> None:
    assert not any("namespace" in each["metadata"] for each in release("production"))
    queries = [each["spec"]["triggers"][0]["metadata"]["query"] for each in of_kind("production", "ScaledObject")]
    assert queries and all(f'namespace="{NAMESPACE}"' in query for query in queries)
