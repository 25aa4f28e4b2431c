"""A skeleton becomes the RayJob of one run, and input that the cluster would refuse is refused before it is sent."""

import shlex
import subprocess
from typing import Any

import pytest
import yaml
from clinical_modernbert.cluster.skeleton import entrypoint, fill, parse_skeleton, skeleton_for
from clinical_modernbert.errors import ClusterError

from tests.helpers.rayjob import config_map_data, queued, skeleton

COMMAND = "python jobs/pretrain.py pretrain/demo"


def build(**changes: Any) -> dict[str, Any]:
    arguments = {"name": "run", "namespace": "ml", "command": COMMAND, "workers": {"cpu": 2}, **changes}
    return fill(arguments.pop("skeleton", skeleton()), **arguments)


def test_only_name_namespace_entrypoint_and_sizes_are_filled_in() -> None:
    bare, job = skeleton(), build(workers={"cpu": 1, "a100": 2})
    sizes = {"a100": 2, "cpu": 1}

    assert job["metadata"] == {**bare["metadata"], "name": "run", "namespace": "ml"}
    assert job["spec"].pop("entrypoint") == COMMAND
    for group in bare["spec"]["rayClusterSpec"]["workerGroupSpecs"]:
        count = sizes[group["groupName"]]
        group.update(replicas=count, minReplicas=count, maxReplicas=count)
    assert job["spec"] == bare["spec"]


def test_groups_that_a_run_does_not_use_are_removed() -> None:
    bare = skeleton()
    (group,) = build(skeleton=bare, workers={"cpu": 3})["spec"]["rayClusterSpec"]["workerGroupSpecs"]

    assert (group["groupName"], group["replicas"], group["minReplicas"], group["maxReplicas"]) == ("cpu", 3, 3, 3)
    assert bare == skeleton(), "the skeleton itself is not changed"


def test_a_job_with_a_queue_starts_suspended() -> None:
    assert "suspend" not in build()["spec"]
    assert build(skeleton=queued(skeleton()))["spec"]["suspend"] is True


def test_the_entrypoint_of_a_whole_rayjob_is_replaced() -> None:
    earlier = build(command="python jobs/sweep.py sweep/demo")

    assert build(skeleton=earlier)["spec"]["entrypoint"] == COMMAND
    assert next(iter(build()["spec"])) == "entrypoint", "the first line of a dry run's specification"


def test_the_retries_of_the_release_are_kept() -> None:
    bare = skeleton()
    bare["spec"]["entrypoint"] = "--retries 2"
    first = build(skeleton=bare)

    assert first["spec"]["entrypoint"] == f"{COMMAND} --retries 2" == build(skeleton=first)["spec"]["entrypoint"]


@pytest.mark.parametrize(("kind", "secret"), [("build_corpus", "publisher-keys"), ("pretrain", "trainer-keys")])
def test_a_kind_of_job_gets_the_skeleton_of_its_role(kind: str, secret: str) -> None:
    assert skeleton_for(kind, config_map_data(), origin="test") == skeleton(secret)


@pytest.mark.parametrize("data", [{}, {"shape.yaml": "image: x"}, {"roles.yaml": "sweep: trainer"}])
def test_a_release_without_a_skeleton_for_the_kind_says_so(data: dict[str, str]) -> None:
    with pytest.raises(ClusterError, match=r"ConfigMap ml/cm has no skeleton for 'sweep': upgrade the release"):
        skeleton_for("sweep", data, origin="ConfigMap ml/cm")


@pytest.mark.parametrize(
    "override",
    ["a.b=1", "a=[1e-4,3e-4]", "a=two words", "a=s3://bucket/x@y", "a=50%", "a=x=y", "a=", 'a={b: "c", d: [1, 2]}'],
)
def test_overrides_arrive_whole_through_both_shells(override: str) -> None:
    """KubeRay gives the entrypoint to bash; `ray job submit` quotes its arguments and Ray gives the result to sh."""
    command = entrypoint("pretrain", "pretrain/demo", [override])
    for shell in ("bash", "sh"):
        words = _words(shell, command)
        command = shlex.join(words)

    assert words == ["python", "jobs/pretrain.py", "pretrain/demo", "--set", override]


@pytest.mark.parametrize(
    ("kind", "recipe", "override", "message"),
    [
        ("train", "pretrain/demo", "a=1", "choose one of build_corpus, build_pairs, pretrain"),
        ("pretrain", "../secret.yaml", "a=1", "<kind>/<name> below jobs/recipes"),
        ("pretrain", "pretrain/demo", "a=$(id)", "a=$(id)"),
        ("pretrain", "pretrain/demo", "a='b'", "two shells"),
        ("pretrain", "pretrain/demo", "a=b\nc", "two shells"),
    ],
)
def test_a_command_line_that_a_shell_would_change_is_refused(
    kind: str, recipe: str, override: str, message: str
) -> None:
    with pytest.raises(ClusterError) as caught:
        entrypoint(kind, recipe, [override])

    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "a" * 48}, "has 48 characters, at most 47 are allowed"),
        ({"name": "1run"}, "start with a letter"),
        ({"name": "Run"}, "lower-case"),
        ({"workers": {"h100": 1}}, "no worker group 'h100'; this release has: a100, cpu"),
        ({"workers": {"cpu": 0}}, "at least 1"),
        ({"workers": {}}, "no workers"),
    ],
)
def test_wrong_names_and_sizes_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ClusterError) as caught:
        build(**changes)

    assert message in str(caught.value)


def test_longest_name_is_allowed() -> None:
    assert build(name="a" * 47)["metadata"]["name"] == "a" * 47


def test_a_skeleton_that_kuberay_would_refuse_is_refused() -> None:
    old = skeleton()
    old["spec"]["rayClusterSpec"]["rayVersion"] = "2.40.0"

    with pytest.raises(ClusterError, match=r"KubeRay would refuse RayJob run:\n  token authentication needs Ray 2\.52"):
        build(skeleton=old)


def without(*path: str) -> str:
    changed: dict[str, Any] = skeleton()
    parent = changed
    for field in path[:-1]:
        parent = parent[field]
    del parent[path[-1]]
    return yaml.safe_dump(changed)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kind: [", "is not valid YAML"),
        ("", "contains no Kubernetes object, and a RayJob is needed"),
        ("image: x", "contains no Kubernetes object, and a RayJob is needed"),
        ("kind: RayCluster", "contains RayCluster, and a RayJob is needed"),
        ("{kind: RayJob, spec: 1}", "has no spec.rayClusterSpec.headGroupSpec.template.spec"),
        (without("spec", "rayClusterSpec", "headGroupSpec"), "has no spec.rayClusterSpec.headGroupSpec.template.spec"),
        (without("spec", "rayClusterSpec", "workerGroupSpecs"), "has no spec.rayClusterSpec.workerGroupSpecs"),
    ],
)
def test_a_file_that_is_not_a_skeleton_is_refused_by_name(text: str, message: str) -> None:
    with pytest.raises(ClusterError) as caught:
        parse_skeleton(text, origin="job.yaml")

    assert str(caught.value).startswith("job.yaml")
    assert message in str(caught.value)


def _words(shell: str, command: str) -> list[str]:
    """The arguments that ``shell`` makes of ``command``."""
    script = f"for word in {command}; do printf '%s\\0' \"$word\"; done"
    return subprocess.run([shell, "-c", script], capture_output=True, text=True, check=True).stdout.split("\0")[:-1]
