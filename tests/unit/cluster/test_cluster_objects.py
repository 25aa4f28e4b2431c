"""RayJob and RayService objects: what they hold, and what is refused before anything is sent."""

import shlex
import subprocess
from typing import Any

import pytest
import yaml
from clinical_modernbert.cluster import Shape, parse_shape, ray_job, ray_service
from clinical_modernbert.cluster.objects import entrypoint
from clinical_modernbert.errors import ClusterError


def build(shape: Shape, **changes: Any) -> dict[str, Any]:
    arguments = {"kind": "pretrain", "recipe": "pretrain/demo", "shape": shape, "workers": {"cpu": 2}, **changes}
    return ray_job(arguments.pop("name", "run"), **arguments)


def test_job_runs_the_recipe_on_a_cluster_of_fixed_size(shape: Shape) -> None:
    job = build(shape, workers={"cpu": 1, "a100": 2}, overrides=["optimizer.learning_rate=3e-4"], namespace="ml")
    cpu, a100 = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]

    assert job["spec"]["entrypoint"] == "python jobs/pretrain.py pretrain/demo --set 'optimizer.learning_rate=3e-4'"
    assert job["metadata"]["namespace"] == "ml"
    assert [(group["groupName"], group["minReplicas"], group["maxReplicas"]) for group in (cpu, a100)] == [
        ("cpu", 1, 1),
        ("a100", 2, 2),
    ]
    assert job["spec"]["rayClusterSpec"]["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0"}
    assert "enableInTreeAutoscaling" not in job["spec"]["rayClusterSpec"]


def test_gpu_workers_alone_get_gpus_and_their_image(shape: Shape) -> None:
    job = build(shape, workers={"cpu": 1, "a100": 1})
    cpu, a100 = (group["template"]["spec"] for group in job["spec"]["rayClusterSpec"]["workerGroupSpecs"])

    assert a100["containers"][0]["image"] == shape.gpu_image
    assert a100["containers"][0]["resources"]["limits"] == {
        "cpu": "90",
        "memory": "900Gi",
        "rdma/ib": "1",
        "nvidia.com/gpu": "8",
    }
    assert a100["tolerations"][0]["key"] == "nvidia.com/gpu"
    assert a100["nodeSelector"] == {"gpu": "a100"}
    assert cpu["containers"][0]["image"] == shape.image
    assert "nvidia.com/gpu" not in cpu["containers"][0]["resources"]["limits"]
    assert "tolerations" not in cpu


def test_keys_come_from_their_secret_and_never_as_values(shape: Shape) -> None:
    job = build(shape)
    environment = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]["env"]
    by_name = {variable["name"]: variable for variable in environment}

    assert by_name["ARTIFACT_ROOT"]["value"] == "s3://bucket"
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        assert by_name[key]["valueFrom"]["secretKeyRef"] == {"name": "trainer-keys", "key": key}
        assert "value" not in by_name[key]


def test_failed_workers_go_at_once_and_the_head_later(shape: Shape) -> None:
    rules = build(shape)["spec"]["deletionStrategy"]["deletionRules"]
    seconds = {
        (rule["policy"], rule["condition"].get("jobStatus") or rule["condition"]["jobDeploymentStatus"]): rule[
            "condition"
        ]["ttlSeconds"]
        for rule in rules
    }

    assert seconds == {
        ("DeleteCluster", "SUCCEEDED"): 300,
        ("DeleteWorkers", "FAILED"): 0,
        ("DeleteCluster", "FAILED"): 3600,
        ("DeleteWorkers", "Failed"): 0,
        ("DeleteCluster", "Failed"): 3600,
    }


def test_a_queued_job_can_be_suspended(shape: Shape) -> None:
    queued = shape.model_copy(update={"limits": shape.limits.model_copy(update={"queue": "research"})})
    job = build(queued)

    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "research"
    assert job["spec"]["shutdownAfterJobFinishes"] is True
    assert "deletionStrategy" not in job["spec"]


def test_service_serves_the_application(shape: Shape) -> None:
    service = ray_service("encoder", args={"model": "demo"}, shape=shape, workers={"cpu": 2})
    (application,) = yaml.safe_load(service["spec"]["serveConfigV2"])["applications"]

    assert application["import_path"] == "apps.encoder:build"
    assert application["args"] == {"model": "demo"}
    assert service["spec"]["excludeHeadPodFromServeSvc"] is True


@pytest.mark.parametrize(
    "override",
    ["a.b=1", "a=[1e-4,3e-4]", "a=two words", "a=s3://bucket/x@y", "a=50%", "a=x=y", "a=", 'a={b: "c", d: [1, 2]}'],
)
def test_overrides_arrive_whole_through_both_shells(override: str) -> None:
    """KubeRay hands the entry point to bash; `ray job submit` quotes what it got and Ray hands that to sh."""
    command = entrypoint("pretrain", "pretrain/demo", [override])
    for shell in ("bash", "sh"):
        words = _words(shell, command)
        command = shlex.join(words)

    assert words == ["python", "jobs/pretrain.py", "pretrain/demo", "--set", override]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "a" * 48}, "has 48 characters, at most 47 are allowed"),
        ({"name": "1run"}, "start with a letter"),
        ({"name": "Run"}, "lower-case"),
        ({"kind": "train"}, "choose one of build_corpus, pretrain"),
        ({"recipe": "../secret.yaml"}, "<kind>/<name> below jobs/recipes"),
        ({"overrides": ["a=$(id)"]}, "a=$(id)"),
        ({"overrides": ["a='b'"]}, "two shells"),
        ({"overrides": ["a=b\nc"]}, "two shells"),
        ({"workers": {"h100": 1}}, "no worker group 'h100'; this cluster has: a100, cpu"),
        ({"workers": {"cpu": 0}}, "at least 1"),
        ({"workers": {}}, "no workers"),
    ],
)
def test_what_would_be_refused_is_refused_here(shape: Shape, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ClusterError) as caught:
        build(shape, **changes)

    assert message in str(caught.value)


def test_longest_name_is_allowed(shape: Shape) -> None:
    assert build(shape, name="a" * 47)["metadata"]["name"] == "a" * 47


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image: [", "is not valid YAML"),
        ("image: x", "gpu_image: Field required"),
        ("{image: x, typo: 1}", "typo: Extra inputs"),
        ("head: {cpu: lots}", "head.cpu"),
    ],
)
def test_a_wrong_shape_names_file_and_field(text: str, message: str) -> None:
    with pytest.raises(ClusterError) as caught:
        parse_shape(text, origin="shape.yaml")

    assert str(caught.value).startswith("shape.yaml")
    assert message in str(caught.value)


def _words(shell: str, command: str) -> list[str]:
    """The arguments that ``shell`` makes of ``command``."""
    script = f"for word in {command}; do printf '%s\\0' \"$word\"; done"
    return subprocess.run([shell, "-c", script], capture_output=True, text=True, check=True).stdout.split("\0")[:-1]
