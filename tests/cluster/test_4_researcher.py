"""A researcher whose only right is ``rbac.submitters``: returns to a job, cancels, evaluates, maps, and reads no Secret."""

import base64
import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import yaml

from benchmarks.kits import cluster_canaries
from benchmarks.kits.canaries import Hits
from benchmarks.kits.cluster import FULL_NAME, NAMESPACE, Cluster, sets, wait_for
from benchmarks.kits.cluster_release import OWN_CLUSTER, PRETRAINING

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]

STOLEN = {"name": "STOLEN", "valueFrom": {"secretKeyRef": {"name": "platform-login", "key": "password"}}}


def test_a_job_that_was_left_is_followed_again(researcher: Cluster) -> None:
    """And its log is shown."""
    done = researcher.submit("follow", "corpus")
    assert "s3://platform/test/corpus/demo-" in done.stdout
    assert "RayJob corpus · Complete · SUCCEEDED" in done.stderr


def test_a_cancelled_job_leaves_no_pod(researcher: Cluster) -> None:
    researcher.submit("pretrain", "pretrain/smoke", *OWN_CLUSTER, "--name", "cancelled", "--no-follow", "--no-check")
    wait_for(lambda: pods_of(researcher, "cancelled"), timeout_s=60)
    researcher.submit("cancel", "cancelled")
    wait_for(lambda: not pods_of(researcher, "cancelled"), timeout_s=90)


def test_the_waiting_job_has_started_by_itself(researcher: Cluster) -> None:
    done = researcher.submit("follow", PRETRAINING)
    assert "s3://platform/test/model/smoke-" in done.stdout
    assert f"RayJob {PRETRAINING} · Complete · SUCCEEDED" in done.stderr


def test_evaluation_and_map_follow_on_clusters_of_their_own(researcher: Cluster) -> None:
    """Both at once. They find the corpus and the model by name."""
    evaluate = ("evaluate", "evaluate/demo", *sets("model=smoke", "max_rows=64", "scaling.num_cpus=1"))
    map_codes = ("map_codes", "map/demo", *sets("model=smoke", "max_codes=300"))
    for kind, run in (("evaluation", evaluate), ("map", map_codes)):
        researcher.submit(*run, *OWN_CLUSTER, "--name", kind, "--no-follow")
    for kind in ("evaluation", "map"):
        done = researcher.submit("follow", kind)
        assert f"s3://platform/test/{kind}/demo-" in done.stdout
        assert f"RayJob {kind} · Complete · SUCCEEDED" in done.stderr


def test_an_input_that_is_missing_is_refused_before_a_cluster_starts(researcher: Cluster) -> None:
    """This machine has no keys of the store: the research cluster makes the plan."""
    jobs = len(researcher.list("rayjobs"))
    done = researcher.submit("map_codes", "map/demo", *sets("model=absent"), *OWN_CLUSTER, check=False)
    assert done.returncode == 2
    assert "error: no model 'absent' in s3://platform/test" in done.stderr
    assert "(checked on the research cluster before another one starts" in done.stderr
    assert len(researcher.list("rayjobs")) == jobs


def test_a_job_starts_a_worker_of_the_research_cluster_and_shows_no_patient(
    cluster: Cluster, researcher: Cluster
) -> None:
    """The checkout is uploaded, and the autoscaler adds the worker. At the same time a RayJob refuses a table of patients."""
    hits = Hits()
    cluster_canaries.plant(cluster)
    researcher.submit(*cluster_canaries.corpus_of("bad"), *OWN_CLUSTER, "--name", "canaries", "--no-follow")
    with research_cluster(researcher) as (person, url):
        done = person.submit(*cluster_canaries.corpus_of("good"), "--address", url)
        assert " with 0 CPUs" in done.stdout  # no worker runs yet
        hits.search("output: good", done.stdout + done.stderr)
        cluster_canaries.search_ray_jobs(url, person.variables["RAY_AUTH_TOKEN"], hits)
    done = researcher.submit("follow", "canaries", check=False)
    assert done.returncode == 2, done.stdout
    status = researcher.get("rayjob", "canaries")["status"]
    assert (status["jobDeploymentStatus"], status["failed"]) == ("Failed", 1), "a wrong input is final"
    assert "\nerror: " in researcher.submit("status", "canaries", check=False).stdout
    hits.search("output: bad", done.stdout + done.stderr)
    cluster_canaries.search(cluster, hits)
    assert not hits.wrong
    assert {"events", "pods", "rayjobs", "log", "ray jobs"} <= hits.searched.keys()


def test_no_job_shows_a_secret_of_others(cluster: Cluster, researcher: Cluster) -> None:
    """By a variable, a volume, another account, the token of one, or the pods of a Ray cluster that exists."""
    cluster.kubectl("create", "secret", "generic", "platform-login", "--from-literal=password=top-secret")
    printed = researcher.submit("build_corpus", "corpus/demo", *OWN_CLUSTER, "--name", "theft", "--dry-run").stdout
    job: dict[str, Any] = yaml.safe_load(printed)
    assert create(researcher, job).returncode == 0

    for change, message in (
        (lambda pod: pod["containers"][0]["env"].append(STOLEN), "from a Secret that this release does not use"),
        (
            lambda pod: pod["containers"][0].update(envFrom=[{"secretRef": {"name": "platform-login"}}]),
            "takes its environment",
        ),
        (
            lambda pod: pod["volumes"].append({"name": "s", "secret": {"secretName": "platform-login"}}),
            "a volume holds a Secret",
        ),
        (lambda pod: pod.update(serviceAccountName=f"{FULL_NAME}-head"), "one of the ServiceAccounts"),
        (lambda pod: pod.update(automountServiceAccountToken=True), "automountServiceAccountToken"),
    ):
        changed = copy.deepcopy(job)
        for template in (
            changed["spec"]["rayClusterSpec"]["headGroupSpec"]["template"],
            changed["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["template"],
        ):
            change(template["spec"])
        refused = create(researcher, changed)
        assert refused.returncode != 0
        assert message in refused.stderr


def test_no_job_poses_as_others_or_leaves_the_network_policies(researcher: Cluster) -> None:
    printed = researcher.submit("build_corpus", "corpus/demo", *OWN_CLUSTER, "--name", "posing", "--dry-run").stdout
    job: dict[str, Any] = yaml.safe_load(printed)
    service = {"spec": {"type": "LoadBalancer", "externalIPs": ["192.0.2.1"]}}
    for change, message in (
        (lambda head: head["template"]["metadata"].pop("labels"), "the labels of this release's jobs"),
        (lambda head: head.update(labels={"app.kubernetes.io/component": "explorer"}), "labels of a RayJob's groups"),
        (lambda head: head.update(headService=service), "the Service or the Ingress of its head"),
    ):
        changed = copy.deepcopy(job)
        change(changed["spec"]["rayClusterSpec"]["headGroupSpec"])
        assert message in create(researcher, changed).stderr


def test_the_head_of_the_research_cluster_has_no_token_and_its_account_plants_nothing(cluster: Cluster) -> None:
    research = f"{FULL_NAME}-research"
    (head,) = cluster.list("pods", "--selector", f"ray.io/cluster={research},ray.io/node-type=head")
    inside = ("exec", head["metadata"]["name"], "--container", "ray-head", "--", "ls", "/var/run/secrets/kubernetes.io")
    assert cluster.run("kubectl", "--namespace", NAMESPACE, *inside, check=False).returncode != 0

    path = "/spec/headGroupSpec/template/spec/containers/0/env/-"
    patch = json.dumps([{"op": "add", "path": path, "value": STOLEN}])
    account = f"system:serviceaccount:{NAMESPACE}:{FULL_NAME}-head"
    command = (
        "patch",
        "raycluster",
        research,
        "--type=json",
        f"--patch={patch}",
        f"--as={account}",
        "--dry-run=server",
    )
    refused = cluster.run("kubectl", "--namespace", NAMESPACE, *command, check=False)
    assert "a Secret that this release does not use" in refused.stderr


def test_the_researchers_own_rights_end_there(researcher: Cluster) -> None:
    for allowed, question in (
        ("yes", ("create", "rayjobs.ray.io")),
        ("yes", ("get", f"secrets/{FULL_NAME}-research")),
        ("no", ("get", "secrets/clinical-modernbert-s3")),
        ("no", ("list", "secrets")),
        ("no", ("patch", "rayclusters.ray.io")),
        ("no", ("create", "pods")),
        ("no", ("create", "pods/exec")),
    ):
        answer = researcher.run("kubectl", "--namespace", NAMESPACE, "auth", "can-i", *question, check=False)
        assert answer.stdout.strip() == allowed, question


@contextmanager
def research_cluster(person: Cluster) -> Iterator[tuple[Cluster, str]]:
    """A person with the token of the research cluster, and the address of its head."""
    research = f"{FULL_NAME}-research"
    encoded = person.kubectl("get", "secret", research, "--output", "jsonpath={.data.auth_token}")
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": base64.b64decode(encoded).decode()}
    with person.forward(f"{research}-head-svc", 8265) as url:
        yield replace(person, variables=token), url


def create(person: Cluster, job: dict[str, Any]) -> Any:
    """Try to create an object, without keeping it."""
    command = ("kubectl", "--namespace", NAMESPACE, "create", "--dry-run=server", "--filename", "-")
    return person.run(*command, input=json.dumps(job), check=False)


def pods_of(cluster: Cluster, job: str) -> list[str]:
    """The pods of a RayJob: its Ray cluster's and its submitter."""
    names = [pod["metadata"]["name"] for pod in cluster.list("pods")]
    return [name for name in names if name.startswith(f"{job}-")]
