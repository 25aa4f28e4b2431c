"""NetworkPolicies as a network plugin would apply them: which pods reach which, computed from the rendered objects.

No plugin runs. The tests evaluate selectors, peers and ports by the rules of the API's documentation: for a pod that a policy
selects, only the connections that some policy allows are open in that direction.
"""

from dataclasses import dataclass, field
from functools import cache
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from tests.helpers.chart import PRESETS, Render

pytestmark = pytest.mark.helm

COMMON = {"app.kubernetes.io/part-of": "clinical-modernbert", "app.kubernetes.io/instance": "cm"}


@dataclass(frozen=True)
class Pod:
    """A pod of the release, or one elsewhere (with its namespace or address)."""

    labels: dict[str, str] = field(default_factory=dict)
    namespace: str = "ml"
    address: str = "192.168.9.9"


def ours(component: str, **labels: str) -> Pod:
    return Pod({**COMMON, "app.kubernetes.io/component": component, **labels})


def ray(component: str, node_type: str, cluster: str) -> Pod:
    return ours(component, **{"ray.io/node-type": node_type, "ray.io/cluster": cluster})


HEAD = ray("research", "head", "cm-clinical-modernbert-research")
WORKER = ray("research", "worker", "cm-clinical-modernbert-research")
JOB_HEAD, SUBMITTER = ray("job", "head", "cm-job-x"), ours("job")
SERVE, SERVE_HEAD = ray("endpoint", "worker", "cm-encoder-x"), ray("endpoint", "head", "cm-encoder-x")
EXPLORER, TEST, STORE = ours("explorer"), ours("test"), ours("object-store")
LOGIN, LOGIN_RAY = ours("login-explorer"), ours("login-dashboard")
STRANGER = Pod({"app": "other"})
OPERATOR, INGRESS = Pod(namespace="kuberay"), Pod(namespace="ingress-nginx")
PROMETHEUS, DNS = Pod(namespace="monitoring"), Pod(namespace="kube-system")
GATEWAY = Pod({"gateway.networking.k8s.io/gateway-name": "cm-clinical-modernbert-encoder-gateway"})
INTERNET = Pod(namespace="", address="203.0.113.9")
EVERYONE = [HEAD, WORKER, JOB_HEAD, SUBMITTER, SERVE, SERVE_HEAD, EXPLORER, TEST, STORE, LOGIN, LOGIN_RAY]


class Network:
    """The policies of one rendering."""

    def __init__(self, manifests: list[dict[str, Any]]) -> None:
        self.policies = [manifest["spec"] for manifest in manifests if manifest["kind"] == "NetworkPolicy"]

    def reaches(self, source: Pod, target: Pod, port: int, protocol: str = "TCP") -> bool:
        return self._open("Egress", source, target, port, protocol) and self._open(
            "Ingress", target, source, port, protocol
        )

    def _open(self, direction: str, subject: Pod, peer: Pod, port: int, protocol: str) -> bool:
        if subject.namespace != "ml":
            return True  # the chart's policies do not apply there
        mine = [p for p in self.policies if direction in p["policyTypes"] and selects(p["podSelector"], subject.labels)]
        side, way = ("to", "egress") if direction == "Egress" else ("from", "ingress")
        rules = [rule for policy in mine for rule in policy.get(way) or []]
        return not mine or any(
            (not rule.get(side) or any(is_peer(p, peer) for p in rule[side]))
            and (not rule.get("ports") or any(matches(p, port, protocol) for p in rule["ports"]))
            for rule in rules
        )


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    expressions = selector.get("matchExpressions", [])
    assert all(expression["operator"] == "In" for expression in expressions)
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        labels.get(expression["key"]) in expression["values"] for expression in expressions
    )


def is_peer(peer: dict[str, Any], pod: Pod) -> bool:
    if "ipBlock" in peer:
        block = peer["ipBlock"]
        address = ip_address(pod.address)
        return address in ip_network(block["cidr"]) and not any(
            address in ip_network(n) for n in block.get("except", [])
        )
    if "namespaceSelector" in peer and not selects(
        peer["namespaceSelector"], {"kubernetes.io/metadata.name": pod.namespace}
    ):
        return False
    same = "namespaceSelector" in peer or pod.namespace == "ml"
    return same and selects(peer.get("podSelector", {}), pod.labels)


def matches(rule: dict[str, Any], port: int, protocol: str) -> bool:
    return rule.get("protocol", "TCP") == protocol and rule["port"] == port


@pytest.fixture(scope="module")
def network(render: Render) -> Any:
    """``network(preset, *settings)``, rendered once each."""
    return cache(lambda preset, *settings: Network(render(preset, *settings)))


@pytest.mark.parametrize("preset", PRESETS)
def test_every_pod_template_is_closed_both_ways_by_default(render: Render, preset: str) -> None:
    manifests = render(preset)
    (deny,) = [m["spec"] for m in manifests if m["metadata"]["name"].endswith("-default-deny")]
    templates = list(pod_labels(manifests))

    assert deny["policyTypes"] == ["Ingress", "Egress"] and "ingress" not in deny and "egress" not in deny
    assert len(templates) >= 4
    assert [labels for labels in templates if not selects(deny["podSelector"], labels)] == []
    assert not selects(deny["podSelector"], STRANGER.labels)


def test_only_heads_that_scale_and_helm_test_reach_the_api_server_and_no_pod_the_internet(network: Any) -> None:
    net = network(
        "cpu", "networkPolicy.objectStore.cidrs={10.20.0.0/24}", "networkPolicy.apiServer.cidrs={10.0.0.1/32}"
    )
    api, store = Pod(namespace="", address="10.0.0.1"), Pod(namespace="", address="10.20.0.7")

    assert [pod for pod in EVERYONE if net.reaches(pod, api, 6443)] == [HEAD, TEST]
    assert [pod for pod in EVERYONE if net.reaches(pod, INTERNET, 443)] == []
    reaching = [pod for pod in EVERYONE if net.reaches(pod, store, 443)]
    assert reaching == [HEAD, WORKER, JOB_HEAD, SUBMITTER, SERVE, SERVE_HEAD, EXPLORER, TEST]


@pytest.mark.parametrize(
    ("endpoint", "port"),
    [
        ("https://s3.example.org", 443),
        ("http://minio", 80),
        ("http://minio.store:9000", 9000),
        ("https://[fd00::1]:9443", 9443),
    ],
)
def test_the_store_is_reached_at_the_port_of_its_url(network: Any, endpoint: str, port: int) -> None:
    net = network("cpu", f"objectStore.endpoint={endpoint}")

    assert [p for p in (80, 443, 9000, 9443) if net.reaches(WORKER, INTERNET, p)] == [port]


def test_only_the_name_service_is_reached_by_all_pods(network: Any) -> None:
    net = network("cpu")

    assert all(net.reaches(pod, DNS, 53, protocol) for pod in EVERYONE for protocol in ("UDP", "TCP"))
    assert not any(net.reaches(pod, DNS, 8080) for pod in EVERYONE)
    openshift = network("openshift")
    assert openshift.reaches(HEAD, Pod(namespace="openshift-dns"), 5353, "UDP")
    assert not openshift.reaches(HEAD, DNS, 53, "UDP")


def test_ray_talks_within_a_component_and_is_reached_by_the_operator_on_one_port(network: Any) -> None:
    net = network("cpu")

    for a, b in ((HEAD, WORKER), (WORKER, HEAD), (SUBMITTER, JOB_HEAD), (SERVE_HEAD, SERVE)):
        assert net.reaches(a, b, 6379) and net.reaches(a, b, 33333)
    for a, b in (
        (WORKER, JOB_HEAD),
        (JOB_HEAD, HEAD),
        (SERVE, HEAD),
        (EXPLORER, HEAD),
        (STRANGER, HEAD),
        (INGRESS, HEAD),
    ):
        assert not any(net.reaches(a, b, port) for port in (6379, 8265, 10001))
    assert net.reaches(OPERATOR, HEAD, 8265) and net.reaches(OPERATOR, SERVE_HEAD, 8265)
    assert not net.reaches(OPERATOR, HEAD, 6379)
    assert net.reaches(PROMETHEUS, WORKER, 8080) and not net.reaches(PROMETHEUS, HEAD, 8265)


def test_the_endpoint_is_reached_only_by_the_explorer_and_through_its_ingress(network: Any) -> None:
    closed, opened = network("cpu"), network("everything")

    for net in (closed, opened):
        assert net.reaches(EXPLORER, SERVE, 8000) and net.reaches(TEST, SERVE, 8000)
        assert not net.reaches(STRANGER, SERVE, 8000) and not net.reaches(EXPLORER, SERVE_HEAD, 8265)
    assert not closed.reaches(INGRESS, SERVE, 8000)
    assert opened.reaches(INGRESS, SERVE, 8000)
    assert opened.reaches(Pod(namespace="registry"), SERVE, 8000)


def test_the_gateway_of_an_incremental_upgrade_is_between_the_endpoint_and_its_clients(network: Any) -> None:
    net, without = network("everything"), network("cpu")

    for client in (EXPLORER, TEST):
        assert net.reaches(client, GATEWAY, 80) and not without.reaches(client, GATEWAY, 80)
    assert net.reaches(GATEWAY, SERVE, 8000) and not without.reaches(GATEWAY, SERVE, 8000)
    assert not net.reaches(GATEWAY, SERVE_HEAD, 8265) and not net.reaches(JOB_HEAD, GATEWAY, 80)


def test_explorer_and_dashboard_are_reached_only_through_their_login(network: Any) -> None:
    net = network("everything")

    assert net.reaches(INGRESS, LOGIN, 4180) and net.reaches(LOGIN, EXPLORER, 8501)
    assert net.reaches(INGRESS, LOGIN_RAY, 4180) and net.reaches(LOGIN_RAY, HEAD, 8265)
    assert not net.reaches(INGRESS, EXPLORER, 8501) and not net.reaches(INGRESS, HEAD, 8265)
    assert not net.reaches(LOGIN, HEAD, 8265) and not net.reaches(LOGIN_RAY, EXPLORER, 8501)
    assert not net.reaches(STRANGER, LOGIN, 4180)


def test_the_development_store_is_reached_by_the_release_only(network: Any) -> None:
    net = network("everything")

    assert net.reaches(JOB_HEAD, STORE, 8333) and net.reaches(EXPLORER, STORE, 8333)
    assert not net.reaches(STRANGER, STORE, 8333) and not net.reaches(STORE, INTERNET, 443)
    assert not net.reaches(LOGIN, STORE, 8333)


def test_redis_is_reached_only_by_the_heads_of_the_endpoint(network: Any) -> None:
    net, redis = network("everything"), Pod(namespace="redis")

    assert [pod for pod in EVERYONE if net.reaches(pod, redis, 6379)] == [SERVE_HEAD]
    assert net.reaches(ray("endpoint", "redis-cleanup", "cm-encoder-x"), redis, 6379)


def test_additional_clients_reach_the_research_cluster_by_address(network: Any) -> None:
    net = network("everything")

    assert net.reaches(Pod(namespace="", address="10.2.0.1"), HEAD, 8265)
    assert not net.reaches(Pod(namespace="", address="10.1.0.1"), HEAD, 8265)
    assert not net.reaches(Pod(namespace="", address="10.2.0.1"), WORKER, 8265)


@pytest.mark.parametrize(
    ("setting", "lost"),
    [
        ("networkPolicy.dns.enabled=false", "cm-clinical-modernbert-dns"),
        ("networkPolicy.objectStore.enabled=false", "cm-clinical-modernbert-object-store"),
        ("networkPolicy.apiServer.enabled=false", "cm-clinical-modernbert-api-server"),
    ],
)
def test_each_kind_of_connection_can_be_switched_off(render: Render, setting: str, lost: str) -> None:
    assert names(render("minimal")) - names(render("minimal", setting)) == {lost}
    assert names(render("minimal", "networkPolicy.enabled=false")) == set()


def names(manifests: list[dict[str, Any]]) -> set[str]:
    return {manifest["metadata"]["name"] for manifest in manifests if manifest["kind"] == "NetworkPolicy"}


def pod_labels(value: Any) -> Any:
    """Labels of every pod template in ``value`` and of pods without one."""
    if isinstance(value, list):
        for item in value:
            yield from pod_labels(item)
    elif isinstance(value, dict):
        if "spec" in value and "containers" in (value["spec"] or {}):
            yield value["metadata"]["labels"]
        for item in value.values():
            yield from pod_labels(item)
