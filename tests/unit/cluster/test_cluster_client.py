"""The client and the command against the API stub, over HTTP and through a kubeconfig."""

import logging
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from clinical_modernbert.cluster.client import Cluster
from clinical_modernbert.cluster.command import default_name, main, parse_workers
from clinical_modernbert.cluster.follow import follow, waiting
from clinical_modernbert.cluster.skeleton import QUEUE_LABEL, fill
from clinical_modernbert.errors import ClusterError, UnavailableError

from tests.helpers.api_stub.server import Stub, write_kubeconfig
from tests.helpers.api_stub.state import State
from tests.helpers.rayjob import ScriptedState, config_map_data, skeleton

SUBMIT = ["pretrain", "pretrain/demo", "--release", "cm", "--namespace", "ml", "--workers", "cpu=2", "--poll-s", "0"]
INITIALIZING = {"jobDeploymentStatus": "Initializing", "rayClusterName": "run-abc"}
RUNNING = {"jobDeploymentStatus": "Running", "jobStatus": "RUNNING", "rayClusterName": "run-abc"}
COMPLETE = {"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED", "rayClusterName": "run-abc"}
FAILED = {
    "jobDeploymentStatus": "Failed",
    "jobStatus": "FAILED",
    "reason": "AppFailed",
    "message": "exit 2",
    "failed": 3,
}


@pytest.fixture
def cluster(stub: Stub) -> Cluster:
    return Cluster.connect(namespace="ml")


def script(stub: Stub, states: list[dict[str, Any] | int]) -> None:
    assert isinstance(stub.state, ScriptedState)
    stub.state.states = states


def job(name: str = "run") -> dict[str, Any]:
    return fill(skeleton(), name=name, namespace="ml", command="python jobs/x.py", workers={"cpu": 1})


def pending(name: str, **status: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "ml", "labels": {"ray.io/cluster": "run-abc"}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": {"phase": "Pending", **status}}


def test_a_submitted_job_arrives_unchanged_and_is_validated_strictly(stub: Stub, cluster: Cluster) -> None:
    built = job()

    assert cluster.submit(built) == "run"
    kept = stub.state.get("rayjobs", "ml", "run")
    assert kept["spec"] == built["spec"]
    assert kept["metadata"].items() >= built["metadata"].items()
    assert "POST /apis/ray.io/v1/namespaces/ml/rayjobs?fieldValidation=Strict" in stub.requests


def test_a_second_job_of_the_name_is_refused(stub: Stub, cluster: Cluster) -> None:
    cluster.submit(job())

    with pytest.raises(ClusterError, match=r'409 rayjobs.ray.io "run" already exists \(choose another --name'):
        cluster.submit(job())


def test_complete_is_the_only_success(stub: Stub, cluster: Cluster) -> None:
    cluster.submit(job())
    states = [{}, INITIALIZING, RUNNING, COMPLETE]
    script(stub, list(states))
    seen = [cluster.state("run") for _ in states]

    assert [state.deployment for state in seen] == ["New", "Initializing", "Running", "Complete"]
    assert [state.started for state in seen] == [False, False, True, True]
    assert [state.ended for state in seen] == [False, False, False, True]
    assert [state.succeeded for state in seen] == [False, False, False, True]


@pytest.mark.parametrize("job_status", ["STOPPED", "FAILED"])
def test_complete_is_not_success_by_itself(stub: Stub, cluster: Cluster, job_status: str) -> None:
    cluster.submit(job())
    script(stub, [{"jobDeploymentStatus": "Complete", "jobStatus": job_status}])

    assert follow(cluster, "run", poll_s=0) is False


def test_a_job_that_does_not_exist_is_an_error(stub: Stub, cluster: Cluster) -> None:
    with pytest.raises(ClusterError, match="404"):
        follow(cluster, "run", poll_s=0)


def test_a_job_that_somebody_deletes_has_failed_for_its_follower(
    stub: Stub, cluster: Cluster, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.submit(job())
    monkeypatch.setattr(time, "sleep", lambda _: cluster.delete("run"))
    assert follow(cluster, "run", poll_s=0) is False
    assert caplog.messages[-1].startswith("RayJob run was deleted before it ended")


@pytest.mark.parametrize("code", [429, 500, 503])
def test_following_survives_an_api_server_that_is_away(stub: Stub, code: int, caplog: pytest.LogCaptureFixture) -> None:
    script(stub, [RUNNING, code, RUNNING, COMPLETE])
    with caplog.at_level(logging.INFO), pytest.raises(SystemExit) as ended:
        main([*SUBMIT, "--name", "run"])

    assert ended.value.code == 0
    assert "leader changed" in caplog.text and "the job is not affected, next try in 1 s" in caplog.text


def test_an_api_server_that_stays_away_is_no_error_of_the_job(stub: Stub, cluster: Cluster) -> None:
    cluster.submit(job())
    script(stub, [503])

    with pytest.raises(UnavailableError, match="leader changed"):
        follow(cluster, "run", poll_s=0, patience_s=0)


def test_a_cluster_that_does_not_answer_ends_with_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_kubeconfig(tmp_path / "config", Stub("http://127.0.0.1:9", State(), token="token"))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    with pytest.raises(SystemExit) as ended:
        main(["status", "run", "--namespace", "ml"])

    assert ended.value.code == 3 and "does not answer" in capsys.readouterr().err


def test_a_job_is_followed_again_and_looked_at_by_its_name(
    stub: Stub, cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.submit(job())
    script(stub, [INITIALIZING])
    unschedulable = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}
    stub.create("pods", pending("worker-1", conditions=[unschedulable]))
    for states, action, code in (
        ([INITIALIZING], "status", 0),
        ([RUNNING, COMPLETE], "follow", 0),
        ([FAILED], "follow", 1),
    ):
        script(stub, list(states))
        with pytest.raises(SystemExit) as ended:
            main([action, "run", "--namespace", "ml", "--poll-s", "0"])
        assert ended.value.code == code
    assert capsys.readouterr().out == ("RayJob run · Initializing\npod worker-1 waits: Unschedulable: 0/3 nodes\n")


def test_the_status_of_a_running_job_has_the_last_line_of_its_log(
    stub: Stub, cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    """So it names the input that the job waits for."""
    cluster.submit(job())
    labels = {"job-name": "run"}
    stub.create("pods", {"metadata": {"name": "run-1", "labels": labels}, "status": {"phase": "Running"}})
    stub.logs["run-1"] = "clinical-modernbert 0.1.0\nwaiting, next look in 30 s: no corpus 'demo'\n"
    for state, line in ((RUNNING, "log: waiting, next look in 30 s: no corpus 'demo'\n"), (COMPLETE, "")):
        script(stub, [state])
        with pytest.raises(SystemExit):
            main(["status", "run", "--namespace", "ml"])
        assert capsys.readouterr().out.partition("\n")[2] == line


def test_waiting_names_quota_queue_submitter_and_failed_init_container(stub: Stub, cluster: Cluster) -> None:
    cluster.submit({**job(), "metadata": {"name": "run", "namespace": "ml", "labels": {QUEUE_LABEL: "research"}}})
    message = 'Failed to create worker Pod ml/{0}, pods "{0}" is forbidden: exceeded quota: tight'
    tries = [message.format(f"run-abc-cpu-worker-{end}") for end in ("x7k2p", "zz4hd")]
    quota = {"type": "Warning", "reason": "FailedToCreateWorkerPod"}
    events = [{**quota, "message": text} for text in tries]
    for number, (name, event) in enumerate(
        [("run-abc", events[0]), ("run-abc", events[1]), ("run-abc", {**events[0], "type": "Normal"}), ("other", quota)]
    ):
        about = {"kind": "RayCluster", "name": name, "namespace": "ml"}
        stub.create("events", {"metadata": {"name": f"e{number}"}, "involvedObject": about, **event})
    container = {"image": "x", "imageID": "", "ready": False, "restartCount": 0, "name": "hub-cache"}
    failed = {**container, "state": {"terminated": {"exitCode": 1}}}
    pulling = {**container, "name": "ray-job-submitter", "state": {"waiting": {"reason": "ImagePullBackOff"}}}
    stub.create("pods", pending("head", initContainerStatuses=[failed]))
    submitter = pending("run-xyz", containerStatuses=[pulling])
    stub.create("pods", {**submitter, "metadata": {"name": "run-xyz", "labels": {"job-name": "run"}}})

    script(stub, [{"jobDeploymentStatus": "Suspended"}])
    assert waiting(cluster, cluster.state("run")) == [
        "waits for admission to Kueue's queue research: kubectl get workloads says why",
        "pod run-xyz waits: ray-job-submitter: ImagePullBackOff",
    ]
    script(stub, [{"jobDeploymentStatus": "Running", "rayClusterName": "run-abc"}])
    assert waiting(cluster, cluster.state("run")) == [
        "pod run-xyz waits: ray-job-submitter: ImagePullBackOff",
        "pod head waits: init container hub-cache failed with exit code 1",
        "event of run-abc: FailedToCreateWorkerPod: Failed to create worker Pod ml/run-abc-cpu-worker, "
        'pods "run-abc-cpu-worker" is forbidden: exceeded quota: tight',
    ]
    script(stub, [RUNNING])
    assert waiting(cluster, cluster.state("run")) == []


def test_pods_that_wait_for_one_reason_are_one_line(stub: Stub, cluster: Cluster) -> None:
    cluster.submit(job())
    script(stub, [INITIALIZING])
    for number in range(3):
        condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}
        stub.create("pods", pending(f"worker-{number}", conditions=[condition]))
    assert waiting(cluster, cluster.state("run")) == ["3 pods wait, worker-0 first: Unschedulable: 0/3 nodes"]


def test_pending_pods_say_why(stub: Stub, cluster: Cluster) -> None:
    unschedulable = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/3 nodes: no gpu",
    }
    pulling = {"name": "ray-worker", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}
    starting = {"name": "ray-worker", "state": {"waiting": {"reason": "ContainerCreating"}}}
    running = {"name": "ray-head", "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}
    container = {"image": "x", "imageID": "", "ready": False, "restartCount": 0}
    pods = [
        pending("worker-1", conditions=[unschedulable]),
        pending("worker-2", containerStatuses=[{**container, **pulling}]),
        pending("worker-3", containerStatuses=[{**container, **starting}]),
        {**pending("head"), "status": {"phase": "Running", "containerStatuses": [{**container, **running}]}},
        {
            **pending("other"),
            "metadata": {"name": "other", "labels": {"ray.io/cluster": "another"}},
            "status": {"conditions": [unschedulable]},
        },
    ]

    for pod in pods:
        stub.create("pods", pod)

    assert cluster.waiting("ray.io/cluster=run-abc") == {
        "worker-1": "Unschedulable: 0/3 nodes: no gpu",
        "worker-2": "ray-worker: ImagePullBackOff: no such image",
    }


def test_a_cluster_without_the_operator_says_so(stub: Stub, cluster: Cluster) -> None:
    stub.served = tuple(resource for resource in stub.served if resource.group != "ray.io")

    with pytest.raises(ClusterError, match=r"KubeRay operator 1\.7 is installed"):
        cluster.submit(job())


def test_errors_hold_no_credentials(stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_kubeconfig(tmp_path / "other", stub, token="wrong-secret")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "other"))

    with pytest.raises(ClusterError, match=r"401 Unauthorized \(log in") as caught:
        Cluster.connect(namespace="ml").state("run")
    assert "wrong-secret" not in str(caught.value)


def test_a_cluster_that_cannot_be_reached_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "absent"))
    with pytest.raises(ClusterError, match="cannot connect to a cluster"):
        Cluster.connect(namespace="ml")

    write_kubeconfig(tmp_path / "absent", Stub("http://127.0.0.1:9", State(), token="token"))
    with pytest.raises(ClusterError, match=r"127\.0\.0\.1:9 does not answer"):
        Cluster.connect(namespace="ml").state("run")


def test_the_command_submits_follows_and_reports_success(stub: Stub, caplog: pytest.LogCaptureFixture) -> None:
    script(stub, [INITIALIZING, INITIALIZING, RUNNING, RUNNING, COMPLETE])
    unschedulable = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    stub.create("pods", pending("worker-1", conditions=[unschedulable]))
    with caplog.at_level(logging.INFO), pytest.raises(SystemExit) as ended:
        main([*SUBMIT, "--set", "training.num_steps=5", "--name", "run"])

    assert ended.value.code == 0
    assert stub.state.get("rayjobs", "ml", "run")["spec"]["entrypoint"].endswith(
        "pretrain/demo --set 'training.num_steps=5'"
    )
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("clinical_modernbert")]
    assert [line.split(" · ")[1] for line in lines if " · " in line] == ["Initializing", "Running", "Complete"]
    assert sum("worker-1 waits: Unschedulable" in line for line in lines) == 1


def test_the_command_ends_with_1_where_the_job_fails(stub: Stub, caplog: pytest.LogCaptureFixture) -> None:
    script(stub, [FAILED])
    with caplog.at_level(logging.INFO), pytest.raises(SystemExit) as ended:
        main([*SUBMIT, "--name", "run"])

    assert ended.value.code == 1
    assert "RayJob run · Failed · FAILED · AppFailed · exit 2 · failed attempts: 3" in caplog.text


def test_a_job_that_ends_for_its_input_ends_with_2_and_keeps_the_reason(
    stub: Stub, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    message = (
        "Job entrypoint command failed with exit code 2, last available logs (truncated to 20,000 chars):\nerror: x\n"
    )
    script(stub, [RUNNING, {**FAILED, "message": message}])
    with caplog.at_level(logging.INFO), pytest.raises(SystemExit) as ended:
        main([*SUBMIT, "--name", "run"])
    assert ended.value.code == 2
    assert "error: the input of RayJob run is wrong, its log says why" in capsys.readouterr().err
    assert "error: x" not in caplog.text, "the log was shown already"

    with pytest.raises(SystemExit) as ended:
        main(["status", "run", "--namespace", "ml"])
    assert ended.value.code == 1
    assert capsys.readouterr().out.splitlines()[1:] == ["error: x"]


def test_the_end_of_a_log_is_shown_once(stub: Stub, cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    """Ray repeats it below its own message."""
    cluster.submit(job())
    labels = {"job-name": "run"}
    stub.create("pods", {"metadata": {"name": "run-1", "labels": labels}, "status": {"phase": "Running"}})
    last = "Job entrypoint command failed with exit code 1, last available logs (truncated to 20,000 chars):"
    stub.logs["run-1"] = f"step 1\nerror: x\nStatus message: {last}\nstep 1\nerror: x\n"
    script(stub, [RUNNING, FAILED])

    assert follow(cluster, "run", poll_s=0) is False
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["step 1", "error: x", "Status message: Job entrypoint command failed with exit code 1"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--name", "Bad"], "lower-case"),
        (["--workers", "cpu=two"], "group=count"),
        (["--set", "a=$HOME"], "two shells"),
        (["--workers", "h100=1"], "no worker group 'h100'; this release has: a100, cpu"),
        (["--release", "absent"], "ConfigMap absent-rayjob"),
        (["--set", "optimizer.lerning_rate=1"], "did you mean 'optimizer.learning_rate'?"),
        (["--root", "s3://other"], "--root has no effect on a RayJob"),
    ],
)
def test_wrong_input_ends_with_2_and_one_message(
    stub: Stub, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*SUBMIT, *arguments])

    assert ended.value.code == 2
    assert message in capsys.readouterr().err
    assert stub.state.list("rayjobs") == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pretrain", "pretrain/doesnotexist", "--release", "cm"], "doesnotexist"),
        (["pretrain", "corpus/demo", "--release", "cm"], "kind is 'corpus', this job runs kind: pretrain"),
        (["pretrain", "corpus/demo", "--address", "http://x", "--dry-run"], "kind is 'corpus'"),
        (["pretrain", "pretrain/demo", "--address", "http://x", "--workers", "cpu=1"], "--workers has no effect with --address"),
        (["pretrain", "pretrain/demo", "--address", "http://x", "--namespace", "ml"], "--namespace has no effect"),
        (["cancel", "run", "--set", "a=1"], "--set has no effect with cancel"),
        (["follow", "run", "--dry-run"], "--dry-run has no effect with follow"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_before_anything_is_sent(
    stub: Stub, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)

    assert ended.value.code == 2
    assert message in capsys.readouterr().err
    assert stub.requests == []


def test_a_recipe_that_only_the_image_has_can_be_sent(stub: Stub) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*SUBMIT[:1], "pretrain/ours", *SUBMIT[2:], "--name", "run", "--no-follow", "--no-check"])

    assert ended.value.code == 0
    assert stub.state.get("rayjobs", "ml", "run")["spec"]["entrypoint"] == "python jobs/pretrain.py pretrain/ours"


@pytest.mark.parametrize("option", ["--skeleton", "--shape"])
def test_a_dry_run_with_a_file_needs_no_cluster(
    option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "absent"))
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(skeleton()), encoding="utf-8")
    command = ["sweep", "sweep/demo", option, str(tmp_path / "job.yaml"), "--workers", "cpu=1", "--dry-run"]
    with pytest.raises(SystemExit) as ended:
        main([*command, "--name", "run"])

    assert ended.value.code == 0
    expected = fill(
        skeleton(),
        name="run",
        namespace="default",
        command="python jobs/sweep.py sweep/demo",
        workers={"cpu": 1},
    )
    assert yaml.safe_load(capsys.readouterr().out) == expected


def test_a_kind_of_job_gets_the_keys_of_its_role(stub: Stub, cluster: Cluster) -> None:
    assert cluster.read_skeleton("cm", "build_corpus") == yaml.safe_load(config_map_data()["publisher.yaml"])
    with pytest.raises(ClusterError, match=r"ConfigMap ml/cm-rayjob has no skeleton for 'sweep'"):
        cluster.read_skeleton("cm", "sweep")


def test_default_names_fit_and_differ_by_the_second() -> None:
    import time

    first, second = time.gmtime(1_800_000_000), time.gmtime(1_800_000_001)
    name = default_name("build_corpus", "corpus/a_Very.long-recipe-name-that-goes-on", first)

    assert name == "build-corpus-a-very-long-recipe-0115-080000"
    assert len(name) <= 47
    assert name != default_name("build_corpus", "corpus/a_Very.long-recipe-name-that-goes-on", second)


def test_workers_are_parsed_strictly() -> None:
    assert parse_workers(["cpu=2", "a100=1"]) == {"cpu": 2, "a100": 1}
    for bad in (["cpu"], ["=2"], ["cpu=-1"], ["cpu=1", "cpu=2"]):
        with pytest.raises(ClusterError, match="group=count"):
            parse_workers(bad)
