"""The client and the command against the API stub, over HTTP and through a kubeconfig."""

import logging
import time
from pathlib import Path

import pytest
import yaml
from clinical_modernbert.cluster.client import Cluster
from clinical_modernbert.cluster.command import default_name, main, parse_workers
from clinical_modernbert.cluster.skeleton import fill
from clinical_modernbert.errors import ClusterError

from tests.helpers.api_stub.server import Stub, write_kubeconfig
from tests.helpers.api_stub.state import State
from tests.helpers.rayjob import (
    COMPLETE,
    FAILED,
    INITIALIZING,
    RUNNING,
    SUBMIT,
    config_map_data,
    job,
    pending,
    script,
    skeleton,
)


@pytest.fixture
def cluster(stub: Stub) -> Cluster:
    return Cluster.connect(namespace="ml")


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


@pytest.mark.parametrize(
    ("config", "message"), [("config", "does not answer"), ("absent", "cannot connect to a cluster by /")]
)
def test_a_cluster_that_does_not_answer_or_is_not_found_ends_with_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], config: str, message: str
) -> None:
    write_kubeconfig(tmp_path / "config", Stub("http://127.0.0.1:9", State(), token="token"))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / config))
    with pytest.raises(SystemExit) as ended:
        main(["status", "run", "--namespace", "ml"])

    assert ended.value.code == 3 and message in capsys.readouterr().err


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
