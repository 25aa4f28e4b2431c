"""The kinds that the API stub supports, and their discovery and OpenAPI documents."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Resource:
    """One kind: its group ("" for core), version, plural, and whether its objects have a namespace."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def base(self) -> str:
        return f"/apis/{self.api_version}" if self.group else f"/api/{self.version}"


_TABLE = {
    (
        "",
        "v1",
    ): "pods/Pod services/Service configmaps/ConfigMap secrets/Secret serviceaccounts/ServiceAccount events/Event "
    "persistentvolumeclaims/PersistentVolumeClaim namespaces/Namespace nodes/Node",
    ("apps", "v1"): "deployments/Deployment statefulsets/StatefulSet replicasets/ReplicaSet",
    ("batch", "v1"): "jobs/Job",
    ("autoscaling", "v2"): "horizontalpodautoscalers/HorizontalPodAutoscaler",
    ("networking.k8s.io", "v1"): "networkpolicies/NetworkPolicy ingresses/Ingress",
    ("policy", "v1"): "poddisruptionbudgets/PodDisruptionBudget",
    ("rbac.authorization.k8s.io", "v1"): "roles/Role rolebindings/RoleBinding",
    (
        "admissionregistration.k8s.io",
        "v1",
    ): "validatingadmissionpolicies/ValidatingAdmissionPolicy "
    "validatingadmissionpolicybindings/ValidatingAdmissionPolicyBinding",
    ("ray.io", "v1"): "rayclusters/RayCluster rayjobs/RayJob raycronjobs/RayCronJob rayservices/RayService",
    ("kueue.x-k8s.io", "v1beta2"): "workloads/Workload",
    ("monitoring.coreos.com", "v1"): "podmonitors/PodMonitor prometheusrules/PrometheusRule",
}
_WITHOUT_NAMESPACE = {
    "namespaces",
    "nodes",
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
}
_VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]

RESOURCES = tuple(
    Resource(group, version, *name.split("/"), namespaced=name.split("/")[0] not in _WITHOUT_NAMESPACE)
    for (group, version), names in _TABLE.items()
    for name in names.split()
)


def discovery(path: str, served: tuple[Resource, ...]) -> dict[str, Any] | None:
    """Return the discovery or OpenAPI document at a path, or None if there is none."""
    if path == "/version":
        return {"major": "1", "minor": "34", "gitVersion": "v1.34.0", "platform": "linux/amd64"}
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == "/apis":
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(r) for r in _first_of_each_group(served)]}
    of_base = {base: [r for r in served if r.base == base] for base in {r.base for r in served}}
    if path in of_base:
        return _resource_list(of_base[path])
    if path == "/openapi/v3":
        return {"paths": {base[1:]: {"serverRelativeURL": f"/openapi/v3{base}"} for base in of_base}}
    if path.removeprefix("/openapi/v3") in of_base:
        return _open_api(of_base[path.removeprefix("/openapi/v3")])
    return None


def _first_of_each_group(served: tuple[Resource, ...]) -> list[Resource]:
    return list({resource.group: resource for resource in served if resource.group}.values())


def _group(resource: Resource) -> dict[str, Any]:
    version = {"groupVersion": resource.api_version, "version": resource.version}
    return {"name": resource.group, "versions": [version], "preferredVersion": version}


def _resource_list(resources: list[Resource]) -> dict[str, Any]:
    entries = []
    for resource in resources:
        common = {"namespaced": resource.namespaced, "kind": resource.kind, "singularName": resource.kind.lower()}
        entries.append({"name": resource.plural, "verbs": _VERBS, **common})
        entries.append({"name": f"{resource.plural}/status", "verbs": ["get", "patch", "update"], **common})
    return {
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": resources[0].api_version, "resources": entries
    }  # fmt: skip


def _open_api(resources: list[Resource]) -> dict[str, Any]:
    """Return a document that says only that the server validates fields: clients then need no schemas."""
    paths = {}
    for resource in resources:
        kind = {"group": resource.group, "version": resource.version, "kind": resource.kind}
        where = f"{resource.base}/{'namespaces/{namespace}/' if resource.namespaced else ''}{resource.plural}/{{name}}"
        validation = {"name": "fieldValidation", "in": "query", "schema": {"type": "string"}}
        patch = {"x-kubernetes-group-version-kind": kind, "parameters": [validation], "responses": {}}
        paths[where] = {"patch": patch}
    return {
        "openapi": "3.0.0", "info": {"title": "stub", "version": "1"}, "paths": paths, "components": {"schemas": {}}
    }  # fmt: skip
