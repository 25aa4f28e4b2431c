"""`jobs/submit.py` against the API stub, as a process: submits, follows, says why pods wait, cancels."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helpers.api_stub.server import Stub, running_stub, write_kubeconfig
from tests.helpers.api_stub.state import State
from tests.helpers.kuberay_schema import crds_path, problems
from tests.helpers.rayjob import config_map_data, skeleton

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def stub(repository: Path) -> Iterator[Stub]:
    crds = crds_path(repository)

    def check(body: dict[str, Any]) -> list[str]:
        whole = {name: value for name, value in body.items() if name != "status"}
        return problems(crds, whole) if body["apiVersion"].startswith("ray.io/") else []

    with running_stub(State(check)) as stub:
        stub.create("configmaps", {"metadata": {"name": "cm-rayjob"}, "data": config_map_data()})
        yield stub


@pytest.fixture
def start(stub: Stub, repository: Path, tmp_path: Path) -> Iterator[Start]:
    write_kubeconfig(tmp_path / "kubeconfig", stub)
    started = []

    def run(*arguments: str) -> subprocess.Popen[str]:
        environment = {
            "KUBECONFIG": str(tmp_path / "kubeconfig"), "PATH": "/usr/bin:/bin", "PYTHONPATH": str(repository / "platform")
        }  # fmt: skip
        command = [sys.executable, "jobs/submit.py", *arguments, "--namespace", "ml", "--poll-s", "0.1"]
        process = subprocess.Popen(
            command,
            cwd=repository,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A process that a shell starts in the background ignores Ctrl-C, and so would the processes of these tests.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def looks(stub: Stub) -> int:
    return sum("GET /apis/ray.io/v1/namespaces/ml/rayjobs/run" in request for request in list(stub.requests))


def say(stub: Stub, **status: object) -> None:
    """Write the job's status as the operator would, and wait until it was read."""
    stub.set_status("rayjobs", "run", status)
    seen = looks(stub)
    wait_for(lambda: looks(stub) >= seen + 2)


def test_a_job_is_sent_followed_to_its_end_and_its_log_shown(stub: Stub, start: Start) -> None:
    process = start("pretrain", "pretrain/demo", "--release", "cm", "--workers", "cpu=2", "--name", "run")
    wait_for(lambda: any(job["metadata"]["name"] == "run" for job in stub.state.list("rayjobs")))

    unschedulable = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/3 nodes: no cpu",
    }
    labels = {"ray.io/cluster": "run-abc"}
    stub.create(
        "pods",
        {"metadata": {"name": "w", "labels": labels}, "status": {"phase": "Pending", "conditions": [unschedulable]}},
    )
    say(stub, jobDeploymentStatus="Initializing", rayClusterName="run-abc")
    stub.logs["run-1"] = "step 1 loss 9.5\nstep 2 loss 9.1\n"
    stub.create("pods", {"metadata": {"name": "run-1", "labels": {"job-name": "run"}}, "status": {"phase": "Running"}})
    say(stub, jobDeploymentStatus="Running", jobStatus="RUNNING", rayClusterName="run-abc")
    stub.set_status("rayjobs", "run", {"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"})
    output, errors = process.communicate(timeout=120)

    assert process.returncode == 0, errors
    assert output == "step 1 loss 9.5\nstep 2 loss 9.1\n"
    assert "pod w waits: Unschedulable: 0/3 nodes: no cpu" in errors
    order = [errors.index(f"RayJob run · {state}") for state in ("Initializing", "Running", "Complete")]
    assert order == sorted(order)
    sent = stub.state.get("rayjobs", "ml", "run")
    environment = sent["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]["env"]
    assert "trainer-keys" in [v["valueFrom"]["secretKeyRef"]["name"] for v in environment if "valueFrom" in v]


def test_cancelling_deletes_the_job_and_what_it_owns(stub: Stub, start: Start) -> None:
    follower = start("pretrain", "pretrain/demo", "--release", "cm", "--workers", "cpu=1", "--name", "run")
    wait_for(lambda: looks(stub) > 1)
    job = stub.state.get("rayjobs", "ml", "run")
    owner = {"name": "run", "uid": job["metadata"]["uid"], "kind": "RayJob", "apiVersion": "ray.io/v1"}
    stub.create("pods", {"metadata": {"name": "head", "ownerReferences": [owner]}})
    canceller = start("cancel", "run")

    assert canceller.wait(timeout=120) == 0
    assert "RayJob run and its cluster are deleted" in canceller.communicate()[1]
    assert stub.state.list("rayjobs") == stub.state.list("pods") == []
    assert follower.wait(timeout=120) == 1
    assert "RayJob run was deleted before it ended" in follower.communicate()[1]
    again = start("cancel", "run")
    assert again.wait(timeout=120) == 2 and "404" in again.communicate()[1]


def test_leaving_by_ctrl_c_leaves_the_job_running(stub: Stub, start: Start) -> None:
    process = start("pretrain", "pretrain/demo", "--release", "cm", "--workers", "cpu=1", "--name", "run")
    wait_for(lambda: looks(stub) > 1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)

    assert process.returncode == 130
    assert "continues; stop it by: python jobs/submit.py cancel run --namespace ml" in errors
    assert len(stub.state.list("rayjobs")) == 1


def test_what_the_operator_would_refuse_is_not_sent(stub: Stub, start: Start) -> None:
    old_ray = skeleton()
    old_ray["spec"]["rayClusterSpec"]["rayVersion"] = "2.40.0"
    data = {**config_map_data(), "trainer.yaml": yaml.safe_dump(old_ray)}
    stub.state.change(("configmaps", "ml", "cm-rayjob"), lambda old: {**old, "data": data})
    process = start("pretrain", "pretrain/demo", "--release", "cm", "--workers", "cpu=1", "--name", "run")

    assert process.wait(timeout=120) == 2
    assert "token authentication needs Ray 2.52, rayVersion is 2.40.0" in process.communicate()[1]
    assert stub.state.list("rayjobs") == []
    assert not any(request.startswith("POST") for request in stub.requests)
