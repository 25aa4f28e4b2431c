"""Jobs that jobs/submit.py makes from the chart's skeletons pass every check that the chart's RayJobs pass."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from clinical_modernbert.artifacts.layout import ARTIFACT_KIND_OF_RECIPE
from clinical_modernbert.cluster.access import rights
from clinical_modernbert.cluster.command import main
from clinical_modernbert.cluster.kuberay_rules import refusals
from clinical_modernbert.cluster.skeleton import JOB_KINDS, entrypoint, fill, skeleton_for

from tests.helpers.chart import PRESETS, Render, no_less_than_it_may_use, of_kind, preset_values, skeletons
from tests.helpers.kuberay_schema import crds_path, problems
from tests.helpers.pod_security import pod_specs, restricted_violations

pytestmark = pytest.mark.helm

RECIPE_OF_JOB = {"build_corpus": "corpus", "build_pairs": "pairs", "map_codes": "map"}
LIMITS = ("retries", "activeDeadlineSeconds", "preRunningDeadlineSeconds", "queue", "queuePriority")
QUEUED = ("jobDefaults.queue=research", "jobDefaults.queuePriority=high")


def submitted(
    manifests: list[dict[str, Any]], kind: str, workers: dict[str, int], *, command: str = "", name: str = "run"
) -> dict[str, Any]:
    skeleton = skeleton_for(kind, skeletons(manifests), origin="the chart")
    command = command or entrypoint(kind, f"{kind}/demo", ["a.b=1"])
    return fill(skeleton, name=name, namespace="ml", command=command, workers=workers)


def all_groups(preset: str, count: int = 1) -> dict[str, int]:
    return dict.fromkeys(preset_values(preset)["workerGroups"], count)


@pytest.mark.parametrize("settings", [(), QUEUED], ids=["plain", "queued"])
@pytest.mark.parametrize("kind", JOB_KINDS)
@pytest.mark.parametrize("preset", PRESETS)
def test_a_job_of_every_kind_satisfies_crds_operator_and_pod_security(
    render: Render, repository: Path, preset: str, kind: str, settings: tuple[str, ...]
) -> None:
    job = submitted(render(preset, *settings), kind, all_groups(preset, 2))

    assert problems(crds_path(repository), job) == []
    assert refusals(job) == []
    for spec in pod_specs(job).values():
        assert restricted_violations(spec) == []
        assert spec["automountServiceAccountToken"] is False and spec["serviceAccountName"] != "default"
        for container in spec["containers"]:
            assert no_less_than_it_may_use(container)
            assert not container["image"].endswith(":latest") and ":" in container["image"].rpartition("/")[2]


@pytest.mark.parametrize("preset", [p for p in PRESETS if preset_values(p)["jobs"]])
def test_a_submitted_job_is_the_one_that_the_chart_renders(render: Render, preset: str) -> None:
    """Only the limits that an entry of `jobs` sets itself differ, and by its queue whether it requests disk."""
    manifests, values = render(preset), preset_values(preset)
    rendered = {manifest["metadata"]["name"]: manifest["spec"] for manifest in of_kind(manifests, "RayJob")}
    rendered |= {m["metadata"]["name"]: m["spec"]["jobTemplate"] for m in of_kind(manifests, "RayCronJob")}
    fullname = values["fullnameOverride"] or "cm-clinical-modernbert"

    for name, job in values["jobs"].items():
        if job.get("enabled", True):
            theirs = rendered.pop(f"{fullname}-{name}")
            waits = " --wait-for-inputs 86400"  # a submitted job is refused instead
            command = entrypoint(job["kind"], job["recipe"], job.get("overrides", [])) + waits
            ours = submitted(manifests, job["kind"], job["workers"], command=command)
            compared = ("submitterPodTemplate", "rayClusterSpec")  # the retries are in the entrypoint
            for field in ours["spec"] if not job.keys() & LIMITS else compared:
                assert without_disk(ours["spec"][field]) == without_disk(theirs[field]), (name, field)
            if not job.keys() & LIMITS:
                assert ours["spec"].keys() == theirs.keys()
    assert not rendered


def without_disk(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_disk(item) for key, item in value.items() if key != "ephemeral-storage"}
    return [without_disk(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("count", [1, 2, 64, 1000])
def test_groups_have_the_number_of_pods_that_was_submitted(render: Render, repository: Path, count: int) -> None:
    job = submitted(render("everything"), "pretrain", {"a100": count})
    (group,) = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]

    assert [group[field] for field in ("groupName", "replicas", "minReplicas", "maxReplicas")] == ["a100", *[count] * 3]
    assert problems(crds_path(repository), job) == []
    assert "enableInTreeAutoscaling" not in job["spec"]["rayClusterSpec"]


def test_a_group_with_gpus_keeps_its_image_devices_and_nodes(render: Render) -> None:
    job = submitted(render("everything"), "pretrain", {"a100": 1, "cpu": 1})
    a100, cpu = (group["template"]["spec"] for group in job["spec"]["rayClusterSpec"]["workerGroupSpecs"])
    (gpu_container,), (cpu_container,) = a100["containers"], cpu["containers"]

    assert "modernbert-gpu" in gpu_container["image"] and "-gpu" not in cpu_container["image"]
    assert gpu_container["resources"]["limits"] == {
        "cpu": "90", "memory": "900Gi", "nvidia.com/gpu": "8", "rdma/ib": "1"
    }  # fmt: skip
    assert a100["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert a100["runtimeClassName"] == "nvidia" and a100["priorityClassName"] == "training"
    assert a100["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB"}
    assert "nvidia.com/gpu" not in cpu_container["resources"]["limits"] and "tolerations" not in cpu


def test_a_job_with_a_queue_is_suspended_and_labelled_for_kueue(render: Render) -> None:
    job = submitted(render("minimal", *QUEUED), "sweep", {"cpu": 1})
    labels = job["metadata"]["labels"]

    assert job["spec"]["suspend"] is True and job["spec"]["shutdownAfterJobFinishes"] is True
    assert "deletionStrategy" not in job["spec"]
    assert labels["kueue.x-k8s.io/queue-name"] == "research" and labels["kueue.x-k8s.io/priority-class"] == "high"
    without = submitted(render("minimal"), "sweep", {"cpu": 1})
    assert "suspend" not in without["spec"] and not any("kueue" in label for label in without["metadata"]["labels"])


def test_workers_of_a_job_go_at_once_and_its_head_later(render: Render) -> None:
    rules = submitted(render("minimal"), "sweep", {"cpu": 1})["spec"]["deletionStrategy"]["deletionRules"]
    seconds = {
        (rule["policy"], rule["condition"].get("jobStatus") or rule["condition"]["jobDeploymentStatus"]): rule[
            "condition"
        ]["ttlSeconds"]
        for rule in rules
    }

    assert seconds == {
        ("DeleteWorkers", "SUCCEEDED"): 0,
        ("DeleteCluster", "SUCCEEDED"): 300,
        ("DeleteWorkers", "FAILED"): 0,
        ("DeleteCluster", "FAILED"): 3600,
        ("DeleteWorkers", "Failed"): 0,
        ("DeleteCluster", "Failed"): 3600,
    }


@pytest.mark.parametrize("kind", JOB_KINDS)
def test_every_job_has_the_keys_to_write_what_it_makes(render: Render, kind: str) -> None:
    manifests = render("everything")
    role = yaml.safe_load(skeletons(manifests)["roles.yaml"])[kind]
    environments = [
        {variable["name"]: variable for variable in container["env"]}
        for spec in pod_specs(submitted(manifests, kind, {"cpu": 1})).values()
        for container in spec["containers"]
        if "env" in container
    ]

    assert "write" in rights(role)[ARTIFACT_KIND_OF_RECIPE[RECIPE_OF_JOB.get(kind, kind)]]
    assert len(environments) == 2, "head and worker"
    for environment in environments:
        for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            secret = environment[key]["valueFrom"]["secretKeyRef"]
            assert secret == {"name": f"clinical-modernbert-s3-{role}", "key": key}
            assert "value" not in environment[key]


def test_the_command_fills_a_skeleton_from_a_file(
    render: Render, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "absent"))
    manifests = render("cpu")
    (tmp_path / "job.yaml").write_text(skeletons(manifests)["publisher.yaml"], encoding="utf-8")
    command = ["build_corpus", "corpus/demo", "--skeleton", str(tmp_path / "job.yaml"), "--workers", "cpu=3"]
    with pytest.raises(SystemExit) as ended:
        main([*command, "--name", "run", "--namespace", "ml", "--dry-run"])

    assert ended.value.code == 0
    expected = submitted(manifests, "build_corpus", {"cpu": 3}, command="python jobs/build_corpus.py corpus/demo")
    assert expected["spec"]["entrypoint"] == "python jobs/build_corpus.py corpus/demo --retries 2"
    assert yaml.safe_load(capsys.readouterr().out) == expected
