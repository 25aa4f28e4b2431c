"""The endpoint from the first request to an upgrade under load and back, and the explorer next to it."""

import json
import os
import warnings
from typing import Any

import openai
import pytest
import yaml
from playwright.sync_api import expect, sync_playwright

from benchmarks.kits.cluster import FULL_NAME, NAMESPACE, RELEASE, Cluster, wait_for
from benchmarks.kits.cluster_load import counts, load
from benchmarks.kits.cluster_release import ENDPOINT, endpoint_is_ready, endpoint_is_settled, ready_workers, upgrade

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(900)]

SEEN_GAP_S = 20
NEXT = [f"image.tag={tag}"] if (tag := os.environ.get("CLUSTER_NEXT_TAG")) else []


def test_the_endpoint_is_ready_by_itself_and_answers_an_openai_client(cluster: Cluster) -> None:
    wait_for(lambda: endpoint_is_ready(cluster), timeout_s=180)
    with cluster.forward(f"{ENDPOINT}-serve-svc", 8000) as url:
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="unused")
        answer = client.embeddings.create(model="smoke", input=["chest pain", "no acute distress"])
    assert len(answer.data) == 2
    assert answer.model.startswith("smoke-")


def test_helm_test_passes(cluster: Cluster) -> None:
    done = cluster.run("helm", "test", RELEASE, "--namespace", NAMESPACE, "--logs")
    assert f"endpoint http://{ENDPOINT}-serve-svc:8000: 128 numbers of unit length" in done.stdout


def test_the_explorer_shows_the_map(cluster: Cluster, chromium: str) -> None:
    with cluster.forward(f"{FULL_NAME}-explorer", 80) as url, sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        page = browser.new_page(viewport={"width": 1500, "height": 1400})
        page.goto(url)
        expect(page.locator(".map[data-drawn] .status").first).to_have_text("300 of 300 codes shown", timeout=120_000)
        browser.close()


def test_upgrades_reach_the_cluster_and_lose_no_request(cluster: Cluster) -> None:
    """A bad tag, which is rolled back, and then one more worker, and another image if the nodes have one."""
    with load(cluster, "smoke"):
        failed = upgrade(cluster, "image.tag=tset", timeout="30s", check=False)
        assert failed.returncode != 0
        assert live_is_manifest(cluster)
        # KubeRay makes a new cluster for the rollback too. The next upgrade would be a third one at the same time.
        wait_for(lambda: endpoint_is_settled(cluster), timeout_s=180)

        upgrade(cluster, "endpoint.workers.cpu=2", *NEXT)
        wait_for(lambda: len(ready_workers(cluster)) == 2, timeout_s=300)
        wait_for(lambda: endpoint_is_ready(cluster), timeout_s=60)
        assert live_is_manifest(cluster)
        seen = counts(cluster)
    assert seen.answered > 100
    assert (seen.lost, seen.wrong) == (0, 0), seen
    if seen.longest_gap_s > SEEN_GAP_S:
        warnings.warn(f"upgrade: a long time without an answer, although no request was lost: {seen}", stacklevel=1)


def live_is_manifest(cluster: Cluster) -> bool:
    """Whether Ray's objects in the cluster have every field that the release's manifest gives them."""
    text = cluster.run("helm", "get", "manifest", RELEASE, "--namespace", NAMESPACE).stdout
    ours = [o for o in yaml.safe_load_all(text) if o and o["apiVersion"] == "ray.io/v1"]
    assert {o["kind"] for o in ours} == {"RayCluster", "RayService", "RayJob"}
    return all(has(cluster.get(o["kind"], o["metadata"]["name"])["spec"], o["spec"], path=o["kind"]) for o in ours)


def has(live: Any, wanted: Any, *, path: str) -> bool:
    """Whether ``live`` contains ``wanted``; the API server adds defaults and drops what is null."""
    if isinstance(wanted, dict):
        return all(value is None or has(live.get(key), value, path=f"{path}.{key}") for key, value in wanted.items())
    if isinstance(wanted, list):
        pairs = zip(live, wanted, strict=True)
        return all(has(one, other, path=f"{path}[{i}]") for i, (one, other) in enumerate(pairs))
    assert live == wanted or not wanted, f"{path} is {json.dumps(live)}, the manifest says {json.dumps(wanted)}"
    return True
