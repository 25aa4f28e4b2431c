"""The admission policy passes the chart's own Ray objects, and refuses Secrets, accounts and rights of others."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from clinical_modernbert.cluster.kuberay_rules import cluster_spec
from clinical_modernbert.cluster.skeleton import fill, skeleton_for

from tests.helpers.admission import denials
from tests.helpers.chart import CHART, PRESETS, Helm, Render, of_kind, preset_values, skeletons
from tests.helpers.kuberay_schema import crds_path, read_schema

pytestmark = pytest.mark.helm

Object = dict[str, Any]
RAY_KINDS = ("RayCluster", "RayJob", "RayService")
SUBMITTERS = ("rbac.submitters[0].kind=Group", "rbac.submitters[0].name=researchers")
SECRET_FIELDS = ("secretKeyRef", "secretRef", "nodePublishSecretRef")


def policy_of(manifests: list[Object]) -> Object:
    (policy,) = of_kind(manifests, "ValidatingAdmissionPolicy")
    return policy


def submitted(manifests: list[Object], kind: str = "pretrain", workers: dict[str, int] | None = None) -> Object:
    skeleton = skeleton_for(kind, skeletons(manifests), origin="the chart")
    return fill(skeleton, name="run", namespace="ml", command="python jobs/x.py", workers=workers or {"cpu": 1})


@pytest.mark.parametrize("preset", PRESETS)
def test_the_policy_passes_what_the_chart_and_submit_make(render: Render, preset: str) -> None:
    manifests = render(preset, *SUBMITTERS)
    policy = policy_of(manifests)
    ours = [manifest for manifest in manifests if manifest["kind"] in RAY_KINDS]
    groups = dict.fromkeys(preset_values(preset)["workerGroups"], 1)
    ours += [submitted(manifests, kind, groups) for kind in ("pretrain", "build_corpus")]  # one for each role
    # KubeRay makes a RayCluster from the specification in a RayService.
    ours += [{**m, "kind": "RayCluster", "spec": cluster_spec(m)} for m in ours if m["kind"] == "RayService"]

    assert len(ours) >= 3
    assert {m["metadata"]["name"]: denials(policy, m) for m in ours if denials(policy, m)} == {}


def test_the_policy_is_bound_to_the_namespace_and_denies(render: Render) -> None:
    manifests = render("everything")
    policy, (binding,) = policy_of(manifests), of_kind(manifests, "ValidatingAdmissionPolicyBinding")

    assert binding["spec"] == {"policyName": policy["metadata"]["name"], "validationActions": ["Deny"]}
    assert "ml" in policy["metadata"]["name"]
    selector = policy["spec"]["matchConstraints"]["namespaceSelector"]["matchLabels"]
    assert selector == {"kubernetes.io/metadata.name": "ml"}


def test_an_upgrade_by_who_may_change_the_policy_may_bring_a_new_secret(render: Render) -> None:
    """Helm changes Ray objects before the policy; otherwise the policy of the release before would refuse them."""
    manifests = render("minimal", *SUBMITTERS)
    policy, job = policy_of(manifests), submitted(manifests)
    new = deepcopy(job)
    head = new["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    head["containers"][0]["envFrom"] = [{"secretRef": {"name": "new"}}]
    right = ("admissionregistration.k8s.io", "validatingadmissionpolicies", policy["metadata"]["name"], "update")

    assert denials(policy, new, old=job) and denials(policy, new)
    assert denials(policy, new, old=job, rights=[right]) == []
    others = [(*right[:3], "get"), (*right[:2], "another", "update"), ("", "secrets", "new", "get")]
    assert denials(policy, new, old=job, rights=others)


def test_there_is_a_policy_only_where_there_are_submitters(render: Render) -> None:
    assert not of_kind(render("minimal"), "ValidatingAdmissionPolicy")
    assert not of_kind(
        render("minimal", *SUBMITTERS, "rbac.admissionPolicy.enabled=false"), "ValidatingAdmissionPolicy"
    )


def test_a_cluster_without_admission_policies_is_refused(helm: Helm) -> None:
    sets = [part for setting in ("operatorCheck=false", *SUBMITTERS) for part in ("--set", setting)]
    values = str(CHART / "ci" / "minimal-values.yaml")
    result = helm("template", "cm", str(CHART), "--values", values, "--kube-version", "1.29.4", *sets)

    assert result.returncode != 0 and "rbac.admissionPolicy needs Kubernetes 1.30" in result.stderr


@pytest.mark.parametrize("kind", ["RayJob", "RayCluster"])
def test_a_foreign_secret_is_refused_wherever_the_crd_can_name_one(render: Render, repository: Path, kind: str) -> None:
    manifests = render("everything")
    policy = policy_of(manifests)
    if kind == "RayJob":
        legal = submitted(manifests)
    else:
        (legal,) = of_kind(manifests, "RayCluster")
    for template in _templates(legal):  # fewer variables are faster to check
        template["spec"]["containers"][0]["env"] = []
    paths = list(_secret_paths(read_schema(crds_path(repository), kind)["properties"]["spec"], ("spec",)))
    # The cluster in a RayJob has the fields of a RayCluster, which the other case tries.
    paths = [(path, value) for path, value in paths if path[1] != "rayClusterSpec"]

    assert denials(policy, legal) == [] and len(paths) >= 17
    for path, value in paths:
        bad = deepcopy(legal)
        _plant(bad, path, value)
        assert denials(policy, bad) != [], ".".join(path)


def test_jobs_may_not_use_the_secrets_of_other_components(render: Render) -> None:
    manifests = render("everything")
    policy = policy_of(manifests)
    for secret in ("endpoint-keys", "redis", "login", "clinical-modernbert-s3", "explorer-endpoint-key"):
        job = submitted(manifests)
        _head(job)["containers"][0]["env"][0] = {
            "name": "STOLEN", "valueFrom": {"secretKeyRef": {"name": secret, "key": "x"}}
        }  # fmt: skip
        assert denials(policy, job) == [
            "a container takes its environment from a Secret that this release does not use"
        ]


def _set_account(job: Object) -> None:
    _head(job)["serviceAccountName"] = "cm-clinical-modernbert-head"


def _drop_account(job: Object) -> None:
    del _head(job)["serviceAccountName"]


def _mount_token(job: Object) -> None:
    _head(job)["automountServiceAccountToken"] = True


def _project_token(job: Object) -> None:
    source = {"serviceAccountToken": {"path": "token"}}
    _head(job)["volumes"].append({"name": "token", "projected": {"sources": [source]}})


def _scale(job: Object) -> None:
    job["spec"]["rayClusterSpec"]["enableInTreeAutoscaling"] = True


def _run_elsewhere(job: Object) -> None:
    del job["spec"]["rayClusterSpec"]
    job["spec"]["clusterSelector"] = {"ray.io/cluster": "cm-clinical-modernbert-research"}


def _pose_as_the_endpoint(job: Object) -> None:
    _head_group(job)["template"]["metadata"]["labels"]["app.kubernetes.io/component"] = "endpoint"


def _leave_the_policies(job: Object) -> None:
    del _head_group(job)["template"]["metadata"]["labels"]


def _leave_them_with_a_worker(job: Object) -> None:
    template = job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["template"]
    template["metadata"]["labels"]["app.kubernetes.io/instance"] = "other"


def _pose_as_the_explorer_by_group(job: Object) -> None:
    _head_group(job)["labels"] = {"app.kubernetes.io/component": "explorer"}


def _pose_as_the_research_head_by_group(job: Object) -> None:
    job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["labels"] = {
        "ray.io/cluster": "cm-clinical-modernbert-research"
    }


def _open_a_service(job: Object) -> None:
    spec = {"type": "LoadBalancer", "externalIPs": ["192.0.2.1"]}
    _head_group(job)["headService"] = {"metadata": {"name": "cm-clinical-modernbert-encoder"}, "spec": spec}


def _open_a_port_of_the_nodes(job: Object) -> None:
    _head_group(job)["serviceType"] = "NodePort"


def _open_an_ingress(job: Object) -> None:
    _head_group(job)["enableIngress"] = True


def _annotate_a_service(job: Object) -> None:
    job["spec"]["rayClusterSpec"]["headServiceAnnotations"] = {
        "external-dns.alpha.kubernetes.io/hostname": "ml.example.org"
    }


def _open_the_network(job: Object) -> None:
    job["spec"]["rayClusterSpec"]["networkPolicy"] = {"mode": "DenyAllIngress", "head": {"ingressRules": [{}]}}


def _copy_a_volume(job: Object) -> None:
    source = {"kind": "PersistentVolumeClaim", "name": "data-cm-clinical-modernbert-store-0"}
    claim = {"accessModes": ["ReadWriteOnce"], "dataSource": source}
    _head(job)["volumes"].append({"name": "copy", "ephemeral": {"volumeClaimTemplate": {"spec": claim}}})


def _drop_the_token(job: Object) -> None:
    job["spec"]["rayClusterSpec"]["authOptions"]["mode"] = "disabled"


def _go_to_a_node(job: Object) -> None:
    _head(job)["nodeName"] = "node-1"


def _evict_others(job: Object) -> None:
    _head(job)["priorityClassName"] = "system-node-critical"


def _mount_the_store(job: Object) -> None:
    claim = {"claimName": "data-cm-clinical-modernbert-store-0"}
    _head(job)["volumes"].append({"name": "store", "persistentVolumeClaim": claim})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set_account, "one of the ServiceAccounts"),
        (_drop_account, "one of the ServiceAccounts"),
        (_mount_token, "automountServiceAccountToken must be false"),
        (_project_token, "must not mount the token"),
        (_scale, "must not use the autoscaler"),
        (_run_elsewhere, "clusterSelector"),
        (_pose_as_the_endpoint, "labels of this release's jobs"),
        (_leave_the_policies, "labels of this release's jobs"),
        (_leave_them_with_a_worker, "labels of this release's jobs"),
        (_pose_as_the_explorer_by_group, "labels of a RayJob's groups"),
        (_pose_as_the_research_head_by_group, "labels of a RayJob's groups"),
        (_open_a_service, "Service or the Ingress of its head"),
        (_open_a_port_of_the_nodes, "Service or the Ingress of its head"),
        (_open_an_ingress, "Service or the Ingress of its head"),
        (_annotate_a_service, "Service or the Ingress of its head"),
        (_open_the_network, "must not have NetworkPolicies of its own"),
        (_copy_a_volume, "must not copy a volume that exists"),
        (_drop_the_token, "must not turn off the token"),
        (_go_to_a_node, "must not choose their node"),
        (_evict_others, "must not choose their node"),
        (_mount_the_store, "volume of the release's own store"),
    ],
)
def test_a_job_that_takes_the_rights_of_others_is_refused(
    render: Render, change: Callable[[Object], None], message: str
) -> None:
    manifests = render("everything")
    job = submitted(manifests)
    change(job)

    (denied,) = denials(policy_of(manifests), job)
    assert message in denied


def test_names_that_the_values_allow_pass(render: Render) -> None:
    setting = "rbac.admissionPolicy.allowedSecrets[0]=wandb"
    manifests = render("everything", setting)
    job = submitted(manifests)
    _head(job)["containers"][0]["envFrom"] = [{"secretRef": {"name": "wandb"}}]

    assert denials(policy_of(manifests), job) == []
    assert denials(policy_of(render("everything")), job) != []


def test_the_jobs_of_a_second_release_in_the_namespace_pass_if_the_values_allow_it(render: Render) -> None:
    theirs = submitted(render("minimal", "objectStore.existingSecret=theirs", release="second"))
    allowed = "rbac.admissionPolicy.allowed"
    names = (f"{allowed}Secrets[0]=theirs", f"{allowed}ServiceAccounts[0]=second-clinical-modernbert")

    assert denials(policy_of(render("minimal", *SUBMITTERS, *names, f"{allowed}Releases[0]=second")), theirs) == []
    (denied,) = denials(policy_of(render("minimal", *SUBMITTERS, *names)), theirs)
    assert "labels of this release's jobs" in denied


def test_an_older_object_can_still_be_deleted_but_not_changed(render: Render) -> None:
    manifests = render("everything")
    policy, old = policy_of(manifests), submitted(manifests)
    _mount_token(old)
    changed = deepcopy(old)
    changed["spec"]["entrypoint"] = "other"

    assert denials(policy, {**old, "metadata": {**old["metadata"], "finalizers": []}}, old=old) == []
    assert denials(policy, changed, old=old) == ["automountServiceAccountToken must be false"]


def _templates(manifest: Object) -> list[Object]:
    cluster = cluster_spec(manifest)
    found = [group["template"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]
    return [*found, manifest["spec"]["submitterPodTemplate"]] if manifest["kind"] == "RayJob" else found


def _head_group(job: Object) -> Object:
    group: Object = job["spec"]["rayClusterSpec"]["headGroupSpec"]
    return group


def _head(job: Object) -> Object:
    spec: Object = _head_group(job)["template"]["spec"]
    return spec


def _secret_paths(schema: Object, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield ``(path, value)`` of each field of the schema that can name a Secret; ``[]`` stands for an item of a list."""
    for name, field in schema.get("properties", {}).items():
        here = (*path, name)
        if name == "secretName":
            yield here, "foreign"
        elif name in SECRET_FIELDS or (name == "secret" and "name" in field.get("properties", {})):
            yield here, {"name": "foreign", "key": "x"}
        elif name == "imagePullSecrets":
            yield here, [{"name": "foreign"}]
        else:
            yield from _secret_paths(field, here)
            if isinstance(field.get("items"), dict):
                yield from _secret_paths(field["items"], (*here, "[]"))


def _plant(target: Any, path: tuple[str, ...], value: Any) -> None:
    """Write ``value`` at ``path``; an item that the path passes is added to its list."""
    step, rest = path[0], path[1:]
    if step == "[]":
        # The head and a worker group exist and are changed; of containers, volumes and variables one more is added.
        if not target or "template" not in target[0]:
            target.append({"name": "added"})
        step_into = target[-1]
        _plant(step_into, rest, value)
    elif not rest:
        target[step] = value
    else:
        _plant(target.setdefault(step, [] if rest[0] == "[]" else {}), rest, value)
