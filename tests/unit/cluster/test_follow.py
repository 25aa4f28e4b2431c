"""A job is followed to its end, and what it waits for and how it ended is said once."""

import logging
import time

import pytest
from clinical_modernbert.cluster.client import Cluster
from clinical_modernbert.cluster.command import main
from clinical_modernbert.cluster.follow import follow, waiting
from clinical_modernbert.cluster.skeleton import QUEUE_LABEL
from clinical_modernbert.errors import ClusterError, UnavailableError

from tests.helpers.api_stub.server import Stub
from tests.helpers.rayjob import COMPLETE, FAILED, INITIALIZING, RUNNING, SUBMIT, job, pending, script


@pytest.fixture
def cluster(stub: Stub) -> Cluster:
    return Cluster.connect(namespace="ml")


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


def test_a_login_that_ends_while_a_job_is_followed_is_no_error_of_the_job(
    stub: Stub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be the service for logins that is away, so it is tried again; a login that never worked is not."""
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    script(stub, [RUNNING, 401, 401, COMPLETE])
    with pytest.raises(SystemExit) as ended:
        main([*SUBMIT, "--name", "run"])
    assert ended.value.code == 0
    assert [pause for pause in pauses if pause] == [1, 2]

    script(stub, [401])
    with pytest.raises(SystemExit) as ended:
        main(["follow", "run", "--namespace", "ml"])
    assert ended.value.code == 3
    said = capsys.readouterr().err
    assert "(log in to the cluster again); the job is not affected, follow it again by" in said
    assert [pause for pause in pauses if pause] == [1, 2]


def test_an_api_server_that_stays_away_is_no_error_of_the_job(stub: Stub, cluster: Cluster) -> None:
    cluster.submit(job())
    script(stub, [503])

    with pytest.raises(UnavailableError, match="leader changed"):
        follow(cluster, "run", poll_s=0, patience_s=0)


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
    script(stub, [COMPLETE])
    assert waiting(cluster, cluster.state("run")) == []


def test_kueue_says_why_a_job_is_not_admitted(stub: Stub, cluster: Cluster) -> None:
    """A user without the right to read workloads, or a cluster without Kueue's version, gets the command."""
    cluster.submit({**job(), "metadata": {"name": "run", "namespace": "ml", "labels": {QUEUE_LABEL: "research"}}})
    script(stub, [{"jobDeploymentStatus": "Suspended"}])
    state = cluster.state("run")
    message = "couldn't assign flavors to pod set head: insufficient unused quota for cpu"
    for name, uid, status in (
        ("other", "another", "False"),
        ("admitted", state.uid, "True"),
        ("ours", state.uid, "False"),
    ):
        reserved = {"type": "QuotaReserved", "status": status, "message": message if name == "ours" else "x"}
        labels = {"kueue.x-k8s.io/job-uid": uid}
        stub.create("workloads", {"metadata": {"name": name, "labels": labels}, "status": {"conditions": [reserved]}})
    assert waiting(cluster, state) == [f"waits for admission to Kueue's queue research: {message}"]


def test_a_running_job_says_which_pod_waits_to_replace_a_lost_one(stub: Stub, cluster: Cluster) -> None:
    cluster.submit(job())
    script(stub, [RUNNING])
    unschedulable = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}
    stub.create("pods", pending("worker-2", conditions=[unschedulable]))
    assert waiting(cluster, cluster.state("run")) == ["pod worker-2 waits: Unschedulable: 0/3 nodes"]


def test_pods_that_wait_for_one_reason_are_one_line(stub: Stub, cluster: Cluster) -> None:
    cluster.submit(job())
    script(stub, [INITIALIZING])
    for number in range(3):
        condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}
        stub.create("pods", pending(f"worker-{number}", conditions=[condition]))
    assert waiting(cluster, cluster.state("run")) == ["3 pods wait, worker-0 first: Unschedulable: 0/3 nodes"]


def test_a_pod_without_its_volumes_says_so(stub: Stub, cluster: Cluster) -> None:
    """Its containers wait without a reason of their own; the kubelet writes an event."""
    cluster.submit(job())
    script(stub, [INITIALIZING])
    container = {"image": "x", "imageID": "", "ready": False, "restartCount": 0, "name": "ray-head"}
    stub.create(
        "pods",
        pending("head", containerStatuses=[{**container, "state": {"waiting": {"reason": "ContainerCreating"}}}]),
    )
    stub.create("pods", pending("worker"))
    for number, (pod, reason) in enumerate(
        [("head", "FailedMount"), ("worker", "Unhealthy"), ("other", "FailedMount")]
    ):
        about = {"kind": "Pod", "name": pod, "namespace": "ml"}
        event = {"type": "Warning", "reason": reason, "message": 'configmap "ca" not found'}
        stub.create("events", {"metadata": {"name": f"e{number}"}, "involvedObject": about, **event})
    assert waiting(cluster, cluster.state("run")) == ['pod head waits: FailedMount: configmap "ca" not found']


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


def test_a_lost_head_is_one_line_and_a_traceback_of_the_job_stays(
    stub: Stub, cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.submit(job())
    stub.create("pods", {"metadata": {"name": "run-1", "labels": {"job-name": "run"}}, "status": {"phase": "Running"}})
    traceback = 'Traceback (most recent call last):\n  File "x.py", line 1\n    x()\n    ^^^\n\n'
    own, lost = (
        f"{traceback}ValueError: x\nstep 2\n",
        f"{traceback}RuntimeError: WebSocket connection closed unexpectedly: 1006\n",
    )
    stub.logs["run-1"] = f"{own}{lost}Traceback (most"
    script(stub, [RUNNING, COMPLETE])

    assert follow(cluster, "run", poll_s=0) is True
    shown = capsys.readouterr().out
    assert shown.startswith(own)
    assert shown.removeprefix(own).splitlines() == [
        "the connection to the head is lost; if the head ended, another one starts and runs the job again", "Traceback (most"
    ]  # fmt: skip
