"""Synthetic patients in jobs on a real cluster, and the search for them in all that Kubernetes and Ray show of these jobs.

``plant`` puts tables into the release's store. ``corpus_of`` is what builds a corpus of one: ``good`` is read, with three rows
that cannot be, and ``bad`` is refused. ``search`` looks through events, objects with their status, logs of all containers, and
the jobs of a Ray cluster. Pods that are deleted by then have no logs; ``submit`` prints those of a job's driver.
"""

import json
import urllib.request
from typing import Any

from benchmarks.kits.canaries import Hits, rows
from benchmarks.kits.cluster import FULL_NAME, Cluster, sets

_NUM_PATIENTS = 100
_KINDS = ("events", "pods", "rayjobs", "rayclusters", "rayservices", "jobs", "configmaps", "deployments")
_PUT = "import sys; from clinical_modernbert.job import open_root; open_root().write_bytes(sys.argv[1], sys.stdin.buffer.read())"


def plant(cluster: Cluster) -> None:
    """Write the tables from the head of the research cluster, which knows the store."""
    (head,) = cluster.list("pods", "--selector", f"ray.io/cluster={FULL_NAME}-research,ray.io/node-type=head")
    for name, bad in (("good", 3), ("bad", _NUM_PATIENTS // 2)):
        inside = ("exec", "--stdin", head["metadata"]["name"], "--container", "ray-head", "--", "python", "-c", _PUT)
        cluster.kubectl(*inside, f"canaries/{name}.csv", input=rows(_NUM_PATIENTS, bad=bad))


def corpus_of(name: str) -> tuple[str, ...]:
    """Return the arguments of jobs/submit.py that build a corpus of a table."""
    path = f"s3://platform/test/canaries/{name}.csv"
    source = f"{{type: table, name: notes, path: {path}, text_column: text, id_column: id}}"
    tokenizer = "tokenizer={base: train, vocabulary_size: 512, num_clinical_tokens: 0}"
    settings = (f"name=canaries-{name}", "max_quarantined_fraction=0.05", "dedup={near: false}", tokenizer)
    return ("build_corpus", "corpus/demo", *sets(f"sources=[{source}]", *settings))


def search(cluster: Cluster, hits: Hits) -> None:
    """Search the namespace: all objects, events among them, and the logs of all containers, also of the one before."""
    for kind in _KINDS:
        for item in cluster.list(kind):
            hits.search(f"{kind}: {item['metadata']['name']}", json.dumps(item))
            if kind == "pods":
                _search_logs(cluster, item, hits)


def _search_logs(cluster: Cluster, pod: dict[str, Any], hits: Hits) -> None:
    name, spec = pod["metadata"]["name"], pod["spec"]
    for container in (*spec.get("initContainers", ()), *spec["containers"]):
        command = ("kubectl", "--namespace", pod["metadata"]["namespace"], "logs", name, "-c", container["name"])
        for before in ((), ("--previous",)):
            done = cluster.run(*command, *before, check=False)  # a container that never started has none
            if done.returncode == 0:
                hits.search(f"log: {name} {container['name']}", done.stdout)


def search_ray_jobs(address: str, token: str, hits: Hits) -> None:
    """Search what a Ray cluster's dashboard says of each submitted job: entrypoint, metadata, message and log."""
    headers = {"Authorization": f"Bearer {token}"}

    def get(path: str) -> str:
        with urllib.request.urlopen(urllib.request.Request(address + path, headers=headers), timeout=60) as answer:
            return str(answer.read().decode())

    found = get("/api/jobs/")
    hits.search("ray jobs: all", found)
    for job in json.loads(found):
        if submitted := job.get("submission_id"):
            hits.search(f"ray jobs: log of {submitted}", get(f"/api/jobs/{submitted}/logs"))
