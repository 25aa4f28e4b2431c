"""The endpoint when things go wrong or grow: replicas die, drain or multiply, Ray Serve refuses, two models live at once."""

import http.client
import json
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clinical_modernbert.artifacts import open_store
from clinical_modernbert.encoder import load_encoder
from clinical_modernbert.recipe import ServeRecipe
from clinical_modernbert.serving.client import Client, EndpointError

from benchmarks.drills import replica_kill
from tests.helpers.own_ray import own_ray
from tests.helpers.ports import free_port
from tests.helpers.served_models import publish_folder
from tests.helpers.tiny import save_tiny_model

pytestmark = [pytest.mark.ray, pytest.mark.slow]

NOTE = "no acute distress, afebrile, lungs clear. "


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("store")
    for name in ("one", "two"):
        folder = tmp_path_factory.mktemp(name)
        save_tiny_model(folder / "model", texts=(NOTE, name * 50))
        publish_folder(root, folder, name=name)
    return root


@pytest.fixture(scope="module")
def url(root: Path) -> Iterator[str]:
    from ray import serve

    port = free_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH", "clinical_modernbert.serving.proxy.middlewares")
        with own_ray(num_cpus=8):
            try:
                serve.start(http_options={"host": "127.0.0.1", "port": port})
                yield f"http://127.0.0.1:{port}"
            finally:
                serve.shutdown()


def deploy(root: Path, name: str, **scaling: Any) -> None:
    from clinical_modernbert.serving.app import build_application
    from ray import serve

    limits = {"max_tokens": 128, "max_batch_tokens": 512}
    recipe = ServeRecipe.model_validate({"name": name, "model": name, "limits": limits, "scaling": scaling})
    serve.run(build_application(open_store(str(root)), recipe), name=name, route_prefix=f"/{name}")


@pytest.fixture(scope="module")
def one(url: str, root: Path) -> str:
    """The address of the model ``one``, which lives to the end of the module."""
    deploy(root, "one", cpus_per_replica=0.5)
    return f"{url}/one"


def status_and_body(url: str, path: str) -> tuple[int, Mapping[str, str], Any]:
    import requests

    answer = requests.post(url + path, json={"inputs": "x"}, timeout=60)
    return answer.status_code, answer.headers, json.loads(answer.content)


def test_what_ray_serve_refuses_itself_has_our_shape_and_retry_after(url: str) -> None:
    from ray import serve
    from ray.serve.config import BackpressureConfig

    @serve.deployment(
        max_ongoing_requests=1,
        max_queued_requests=1,
        backpressure_config=BackpressureConfig(status_code=429, retry_after_s=1),
        ray_actor_options={"num_cpus": 0.1},
    )
    class Slow:
        def __call__(self, request: Any) -> str:
            if request.url.path.endswith("/broken"):
                raise ValueError("the note said Zebulon")
            time.sleep(1)
            return "done"

    serve.run(Slow.bind(), name="slow", route_prefix="/slow")
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: requests_post(url), range(8)))
    refused = [(headers, json.loads(body)) for status, headers, body in answers if status == 429]
    assert refused, [status for status, *_ in answers]
    assert {status for status, *_ in answers} == {200, 429}
    for headers, body in refused:
        assert (body["error"]["code"], headers["Retry-After"]) == ("proxy_full", "1")
        assert set(body["error"]) == {"message", "type", "param", "code"}
    assert counted("ray_cm_proxy_refusals_total", 'cause="proxy_full"') == len(refused)
    status, _, body = status_and_body(url, "/absent")
    assert (status, body["error"]["code"]) == (404, "not_found")
    status, _, body = status_and_body(url, "/slow/broken")
    assert (status, body["error"]["code"]) == (500, "internal_error")
    assert "Zebulon" not in json.dumps(body)
    serve.delete("slow")


def counted(name: str, label: str) -> float:
    """Return a counter's sum on Ray's Prometheus endpoint, once it is there."""
    import ray
    import requests

    port, deadline = ray.nodes()[0]["MetricsExportPort"], time.monotonic() + 60
    while time.monotonic() < deadline:
        page = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=10).text
        found = [line for line in page.splitlines() if line.startswith(f"{name}{{") and label in line]
        if found:
            return sum(float(line.rpartition(" ")[2]) for line in found)
        time.sleep(1)
    raise AssertionError(f"{name} is not there")


def requests_post(url: str) -> tuple[int, Mapping[str, str], bytes]:
    import requests

    answer = requests.post(f"{url}/slow", json={}, timeout=60)
    return answer.status_code, answer.headers, answer.content


@pytest.mark.usefixtures("one")
def test_two_models_live_side_by_side_and_one_grows_with_its_queue_and_is_drained(url: str, root: Path) -> None:
    from ray import serve

    deploy(
        root, "two", cpus_per_replica=0.5, max_replicas=2, target_requests=1, upscale_delay_s=0, downscale_delay_s=600
    )
    for name in ("one", "two"):
        encoder = load_encoder(root / "model" / f"{name}-0123456789ab" / "model")
        client = Client(f"{url}/{name}")
        assert client.info()["model"] == f"{name}-0123456789ab"
        expected = encoder.embed(encoder.tokenize([NOTE]), pooling="cls", normalize=True)
        np.testing.assert_allclose(client.embed([NOTE]), expected, atol=1e-5)

    stopped = threading.Event()

    def load() -> int:
        client, number = Client(f"{url}/two"), 0
        while not stopped.is_set():
            client.embed([NOTE * 5] * 50, model="two")
            number += 1
        return number

    with ThreadPoolExecutor(6) as pool:
        running = [pool.submit(load) for _ in range(6)]
        deadline = time.monotonic() + 90
        try:
            while replicas("two") < 2:
                assert time.monotonic() < deadline, "the second replica did not come"
                time.sleep(0.5)
        finally:
            stopped.set()
        assert all(future.result() > 0 for future in running)

    answered: list[tuple[float, float, int]] = []  # begun and ended, in seconds; vectors
    refused: list[float] = []  # when they were begun

    def ask() -> None:
        client = Client(f"{url}/two", max_attempts=1)
        while not refused:
            begun = time.monotonic()
            try:
                vectors = client.embed([NOTE * 12] * 256, model="two", texts_per_request=256)
            except EndpointError:
                refused.append(begun)
            else:
                answered.append((begun, time.monotonic(), len(vectors)))

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask) for _ in range(4)]
        while len(answered) < 8 and not refused:
            time.sleep(0.01)
        deleted = time.monotonic()
        serve.delete("two")
        for future in asking:
            future.result()
    assert all(number == 256 for *_, number in answered)
    assert any(begun < deleted < ended for begun, ended, _ in answered)  # under way, and answered all the same
    assert min(refused) > deleted - 0.1  # only what had not reached a replica yet


def test_a_client_that_leaves_ray_serve_s_proxy_takes_its_texts_with_it(url: str, one: str) -> None:
    body = json.dumps({"inputs": [NOTE * 12] * 256}).encode()
    client = Client(one, timeout_s=60)

    def seconds(*, leaving: bool) -> float:
        """Time of a small request after seven large ones."""
        client.embed([NOTE], model="one")
        connections = [http.client.HTTPConnection(url.removeprefix("http://"), timeout=60) for _ in range(7)]
        for connection in connections:
            connection.request("POST", "/one/embed", body, {"Content-Type": "application/json"})
        time.sleep(0.3)
        if leaving:
            for connection in connections:
                connection.close()
        begun = time.monotonic()
        client.embed([NOTE] * 64, model="one")
        if not leaving:
            assert [connection.getresponse().status for connection in connections] == [200] * 7
        return time.monotonic() - begun

    stayed = seconds(leaving=False)
    left = seconds(leaving=True)
    assert left < stayed / 2, (left, stayed)


def replicas(name: str) -> int:
    from ray import serve

    states = serve.status().applications[name].deployments["encoder"].replica_states
    return sum(number for state, number in states.items() if str(getattr(state, "value", state)) == "RUNNING")


def test_killed_replicas_lose_no_request_of_the_client(tmp_path: Path) -> None:
    outcome = replica_kill.drill(tmp_path, seed=1, num_kills=1)
    assert outcome.passed, outcome
    assert outcome.facts["requests"] > 20
