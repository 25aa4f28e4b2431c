"""The endpoint becomes ready by itself and answers, and the explorer next to it shows the map."""

import openai
import pytest
from playwright.sync_api import expect, sync_playwright

from benchmarks.kits.cluster import FULL_NAME, NAMESPACE, RELEASE, Cluster, wait_for
from benchmarks.kits.cluster_release import ENDPOINT, endpoint_is_ready

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(900)]


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
