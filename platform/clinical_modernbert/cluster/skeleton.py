"""A RayJob for one run: the chart's skeleton with name, entrypoint and sizes filled in.

The chart renders the skeleton into a ConfigMap (``templates/jobs/configmap.yaml``): pods, deadlines and deletion rules are its
choice, and this module knows none of them. A job that KubeRay's operator would refuse is refused here, before it is sent.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

import yaml

from clinical_modernbert.cluster.kuberay_rules import KubernetesObject, name_refusal, refusals
from clinical_modernbert.errors import ClusterError

JOB_KINDS = (
    "build_corpus",
    "build_pairs",
    "pretrain",
    "contrast",
    "merge",
    "sweep",
    "evaluate",
    "map_codes",
    "embed",
    "project",
    "extract",
)

_RECIPE = re.compile(r"[a-z0-9_]+/[A-Za-z0-9_.-]+")
_OVERRIDE = re.compile(r"[A-Za-z0-9_.]+=[A-Za-z0-9_.:/,+@%=\[\]{}\" -]*")
_RETRIES = re.compile(r"--retries \d+")
# What `fill` and the rules of KubeRay read; the API server checks all other fields.
_NEEDED = ("spec.rayClusterSpec.headGroupSpec.template.spec", "spec.rayClusterSpec.workerGroupSpecs")
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"


def skeleton_for(kind: str, data: Mapping[str, str], *, origin: str) -> KubernetesObject:
    """Return the skeleton for jobs of ``kind`` from the data of the chart's ConfigMap: one for each role."""
    roles = yaml.safe_load(data.get("roles.yaml", "")) or {}
    text = data.get(f"{roles.get(kind)}.yaml")
    if text is None:
        raise ClusterError(f"{origin} has no skeleton for {kind!r}: upgrade the release to this version of the chart")
    return parse_skeleton(text, origin=origin)


def parse_skeleton(text: str, *, origin: str) -> KubernetesObject:
    """Return the skeleton written in YAML; raises ``ClusterError`` that names ``origin`` if it is not a RayJob."""
    try:
        skeleton = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ClusterError(f"{origin} is not valid YAML: {error}") from None
    kind = skeleton.get("kind") if isinstance(skeleton, dict) else None
    if kind != "RayJob":
        raise ClusterError(
            f"{origin} contains {kind or 'no Kubernetes object'}, and a RayJob is needed: take it from the ConfigMap "
            "<full name>-rayjob of a release"
        )
    for path in _NEEDED:
        value = skeleton
        for field in path.split("."):
            value = value.get(field) if isinstance(value, dict) else None
        if not value:
            raise ClusterError(f"{origin} has no {path}: it is not the RayJob of a release")
    return dict(skeleton)


def fill(
    skeleton: KubernetesObject, *, name: str, namespace: str, command: str, workers: Mapping[str, int]
) -> KubernetesObject:
    """Return the RayJob ``name`` that runs ``command`` on ``workers``: worker group of the skeleton -> number of pods.

    Of the skeleton's entrypoint only the number of retries is kept.
    A job with a queue starts suspended, so that it takes no resources before Kueue admits it.
    """
    if reason := name_refusal("RayJob", name):
        raise ClusterError(reason)
    metadata, spec = skeleton.get("metadata", {}), skeleton["spec"]
    retries = _RETRIES.search(spec.get("entrypoint", ""))
    command = f"{command} {retries.group()}" if retries else command
    cluster = spec["rayClusterSpec"]
    sized = {**cluster, "workerGroupSpecs": list(_sized(cluster["workerGroupSpecs"], workers))}
    suspend = {"suspend": True} if QUEUE_LABEL in metadata.get("labels", {}) else {}
    job = {
        **skeleton,
        "metadata": {**metadata, "name": name, "namespace": namespace},
        # The entrypoint comes first, so that it is the first line of a dry run.
        "spec": {"entrypoint": ""} | spec | {"entrypoint": command, "rayClusterSpec": sized} | suspend,
    }
    if reasons := refusals(job):
        raise ClusterError(f"KubeRay would refuse RayJob {name}:\n  " + "\n  ".join(reasons))
    return job


def _sized(groups: Sequence[KubernetesObject], workers: Mapping[str, int]) -> Iterator[KubernetesObject]:
    """Yield the groups that ``workers`` names, each with a fixed number of pods."""
    names = [group["groupName"] for group in groups]
    if not workers:
        raise ClusterError(f"no workers: name a group and a number of pods, such as {names[0]}=2")
    for name, count in workers.items():
        if name not in names:
            raise ClusterError(f"no worker group {name!r}; this release has: {', '.join(sorted(names))}")
        if count < 1:
            raise ClusterError(f"worker group {name!r}: {count} pods; at least 1 is needed")
    for group in groups:
        if group["groupName"] in workers:
            count = workers[group["groupName"]]
            yield {**group, "replicas": count, "minReplicas": count, "maxReplicas": count}


def entrypoint(kind: str, recipe: str, overrides: Sequence[str]) -> str:
    """Return the command line of a job.

    Kubernetes expands ``$(NAME)`` in it, and two shells read it: the submitter's and the driver's. The quotes keep a value whole
    in the first shell, Ray quotes it again for the second, and characters that could end the quotes are refused.
    """
    if kind not in JOB_KINDS:
        raise ClusterError(f"kind {kind!r} is not a kind of job; choose one of {', '.join(JOB_KINDS)}")
    if not _RECIPE.fullmatch(recipe):
        raise ClusterError(
            f"recipe {recipe!r} must be <kind>/<name> below jobs/recipes: the image has no other recipes"
        )
    for override in overrides:
        if not _OVERRIDE.fullmatch(override):
            raise ClusterError(
                f"override {override!r} must be path.to.field=value with a value of letters, digits, blanks and any of "
                '_.:/,+@%=[]{}"- (it passes two shells); write other values into the recipe'
            )
    return " ".join([f"python jobs/{kind}.py {recipe}", *(f"--set '{override}'" for override in overrides)])
