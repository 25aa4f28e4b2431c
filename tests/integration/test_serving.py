"""The endpoint on Ray Serve over HTTP, called by the unmodified openai client."""

import hashlib
import http.client
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from clinical_modernbert.encoder import Encoder, load_encoder
from clinical_modernbert.serving.metrics import METRICS
from clinical_modernbert.serving.notice import VARIABLE, put_up
from numpy.typing import NDArray
from openai import APIStatusError, AuthenticationError, OpenAI

from tests.helpers.own_ray import own_ray
from tests.helpers.ports import free_port
from tests.helpers.served_models import CANARY, TEXTS, publish_model

pytestmark = pytest.mark.ray

KEY = "key-of-the-tests"
MAX_TEXTS, MAX_CHARACTERS, MAX_TOKENS = 40, 5000, 200


@dataclass(frozen=True, slots=True)
class Endpoint:
    port: int
    client: OpenAI
    offline: Encoder
    model_id: str
    log_folder: Path

    def vectors(self, texts: list[str]) -> NDArray[np.float32]:
        return self.offline.embed(self.offline.tokenize(texts), pooling="cls", normalize=True)

    def post(self, body: bytes) -> tuple[int, dict[str, Any], http.client.HTTPMessage]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"}
        connection.request("POST", "/v1/embeddings", body, headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read()), answer.headers

    def get(self, path: str) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", path, headers={"Authorization": f"Bearer {KEY}"})
        answer = connection.getresponse()
        assert answer.status == 200, answer.status
        return json.loads(answer.read())


@pytest.fixture(scope="module")
def api_keys() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLINICAL_API_KEYS", f"tests {hashlib.sha256(KEY.encode()).hexdigest()}")
        yield


@pytest.fixture(scope="module")
def wait_notice(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The file whose name the chart gives to all nodes."""
    path = tmp_path_factory.mktemp("notice") / "wait-notice"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, str(path))
        yield path


@pytest.fixture(scope="module")
def endpoint(
    repository: Path, tmp_path_factory: pytest.TempPathFactory, api_keys: None, wait_notice: Path
) -> Iterator[Endpoint]:
    from ray import serve

    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(repository))  # as `serve run` does with the folder it is called in
        from apps.encoder import ServingArgs, build

    root, folder = tmp_path_factory.mktemp("store"), tmp_path_factory.mktemp("export")
    model_id = publish_model(root, folder)
    with own_ray(num_cpus=2) as log_folder:
        try:
            port = free_port()
            serve.start(http_options={"host": "127.0.0.1", "port": port})
            limits = {
                "limits": {"max_texts": MAX_TEXTS, "max_characters": MAX_CHARACTERS, "max_queued_texts": 200},
                "limits.max_tokens": MAX_TOKENS,
                "limits.max_batch_tokens": "256",
            }
            args = {
                "model": "tiny",
                "root": str(root),
                "scaling.cpus_per_replica": "0.5",
                "require_keys": "true",
                **limits,
            }
            serve.run(build(ServingArgs.model_validate(args)), name="encoder")
            yield Endpoint(
                port=port,
                client=OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key=KEY, max_retries=0),
                offline=load_encoder(folder / "model"),
                model_id=model_id,
                log_folder=log_folder,
            )
        finally:
            serve.shutdown()


@pytest.mark.usefixtures("endpoint")
def test_each_node_gets_a_notice_of_what_is_waited_for(wait_notice: Path) -> None:
    assert not wait_notice.exists()  # the model was there
    put_up("no model 'tiny'\nin file:///store")
    deadline = time.monotonic() + 30
    while not (wait_notice.exists() and wait_notice.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.1)

    assert wait_notice.read_text() == "the endpoint waits: no model 'tiny' in file:///store\n"


def test_the_openai_client_gets_the_offline_vectors_as_numbers_and_as_base64(endpoint: Endpoint) -> None:
    expected = endpoint.vectors(TEXTS)
    # Left to itself the client asks for base64 and decodes it.
    by_default = endpoint.client.embeddings.create(model="tiny", input=TEXTS)
    as_numbers = endpoint.client.embeddings.create(model=endpoint.model_id, input=TEXTS, encoding_format="float")
    for answer in (by_default, as_numbers):
        np.testing.assert_allclose(np.array([item.embedding for item in answer.data]), expected, atol=1e-5)
        assert [item.index for item in answer.data] == list(range(len(TEXTS)))
        assert answer.model == endpoint.model_id
    assert as_numbers.usage.prompt_tokens == sum(len(ids) for ids in endpoint.offline.tokenize(TEXTS))


def test_one_text_and_token_ids_give_the_same_vector_as_the_text_in_a_list(endpoint: Endpoint) -> None:
    ids = endpoint.offline.tokenize(TEXTS[:2])
    expected = endpoint.vectors(TEXTS[:2])
    given: list[Any] = [TEXTS[0], [TEXTS[0]], ids[0], ids]
    for value in given:
        answer = endpoint.client.embeddings.create(model="tiny", input=value)
        found = np.array([item.embedding for item in answer.data])
        np.testing.assert_allclose(found, expected[: len(found)], atol=1e-5)


def test_dimensions_cut_and_then_normalise(endpoint: Endpoint) -> None:
    answer = endpoint.client.embeddings.create(model="tiny", input=TEXTS, dimensions=16)
    expected = endpoint.vectors(TEXTS)[:, :16]
    expected = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(np.array([item.embedding for item in answer.data]), expected, atol=1e-5)


def test_concurrent_requests_get_their_own_vectors_whatever_batch_they_travel_in(endpoint: Endpoint) -> None:
    texts = [f"patient {i}: " + "denies fever and chills. " * (i % 7) for i in range(48)]
    expected = endpoint.vectors(texts)

    def ask(i: int) -> float:
        mine = [texts[i], texts[-1 - i]]
        answer = endpoint.client.embeddings.create(model="tiny", input=mine)
        found = np.array([item.embedding for item in answer.data])
        return float(np.abs(found - expected[[i, len(texts) - 1 - i]]).max())

    with ThreadPoolExecutor(16) as pool:
        worst = max(pool.map(ask, range(len(texts))))
    assert worst <= 1e-5, worst


def test_truncate_cuts_by_the_tokenizers_own_rule_and_says_so(endpoint: Endpoint) -> None:
    long = "acute kidney injury " * 200
    status, answer, _ = endpoint.post(json.dumps({"model": "tiny", "input": [long, "x"], "truncate": True}).encode())
    ids = endpoint.offline.tokenizer(long, truncation=True, max_length=MAX_TOKENS)["input_ids"]
    expected = endpoint.offline.embed([ids], pooling="cls", normalize=True)[0]
    assert status == 200
    np.testing.assert_allclose(np.array(answer["data"][0]["embedding"]), expected, atol=1e-5)
    assert answer["data"][0]["truncated"] is True
    assert "truncated" not in answer["data"][1]


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        ({"input": ""}, 400, "empty_input", "input"),
        ({"input": []}, 400, "empty_input", "input"),
        ({"input": ["fine", ""]}, 400, "empty_input", "input[1]"),
        ({"input": [[]]}, 400, "empty_input", "input[0]"),
        ({"input": CANARY, "model": CANARY}, 404, "model_not_found", "model"),
        ({"input": [CANARY] * (MAX_TEXTS + 1)}, 413, "too_many_texts", "input"),
        ({"input": ["fine", CANARY * 400]}, 422, "text_too_long", "input[1]"),
        ({"input": [CANARY * 20]}, 422, "text_too_long", "input[0]"),
        ({"input": {"text": CANARY}}, 422, "invalid_input", "input"),
        ({"input": [CANARY, 7]}, 422, "invalid_input", "input"),
        ({"input": f"{CANARY} \ud800"}, 422, "invalid_unicode", "input"),
        ({"input": [5, 6, 7]}, 422, "invalid_token_ids", "input"),
        ({"input": [[1, 99_999, 2]]}, 422, "invalid_token_ids", "input[0]"),
        ({"input": CANARY, CANARY: 1}, 422, "unknown_field", None),
        ({"input": CANARY, "encoding_format": CANARY}, 422, "invalid_encoding_format", "encoding_format"),
        ({"input": CANARY, "dimensions": 0}, 422, "invalid_dimensions", "dimensions"),
        ({"input": CANARY, "dimensions": 65}, 422, "invalid_dimensions", "dimensions"),
        ({"model": 7, "input": CANARY}, 422, "invalid_model", "model"),
        ({}, 422, "missing_field", "input"),
        ([CANARY], 422, "invalid_body", None),
    ],
)
def test_bad_requests_get_a_reason_in_openai_s_shape_and_no_text_back(
    endpoint: Endpoint, body: Any, status: int, code: str, param: str | None
) -> None:
    sent = {"model": "tiny", **body} if isinstance(body, dict) else body
    found, answer, _ = endpoint.post(json.dumps(sent).encode())
    assert found == status, answer
    assert set(answer) == {"error"}
    assert set(answer["error"]) == {"message", "type", "param", "code"}
    assert (answer["error"]["code"], answer["error"]["param"]) == (code, param)
    assert answer["error"]["message"]
    assert "Zebulon" not in json.dumps(answer)


def test_a_limit_is_named_with_its_value(endpoint: Endpoint) -> None:
    with pytest.raises(APIStatusError) as refused:
        endpoint.client.embeddings.create(model="tiny", input=["fine", "acute kidney injury " * 200])
    assert refused.value.status_code == 422
    assert (refused.value.code, refused.value.param) == ("text_too_long", "input[1]")
    assert f"max_tokens={MAX_TOKENS}" in str(refused.value)


def test_a_body_that_is_no_json_is_a_400_with_the_position(endpoint: Endpoint) -> None:
    status, answer, _ = endpoint.post(f'{{"model": "tiny", "input": "{CANARY}'.encode())
    assert (status, answer["error"]["code"]) == (400, "invalid_json")
    assert "character" in answer["error"]["message"]
    assert "Zebulon" not in json.dumps(answer)


def test_a_full_queue_answers_429_with_retry_after_and_every_other_request_is_right(endpoint: Endpoint) -> None:
    texts = [f"{'sepsis ' * 25}{i}" for i in range(MAX_TEXTS)]
    expected = endpoint.vectors(texts)

    def ask(_: int) -> int:
        body = json.dumps({"model": "tiny", "input": texts}).encode()
        status, answer, headers = endpoint.post(body)
        if status == 429:
            assert answer["error"]["code"] == "queue_full"
            assert 1 <= int(headers["Retry-After"]) <= 30
        else:
            found = np.array([item["embedding"] for item in answer["data"]])
            np.testing.assert_allclose(found, expected, atol=1e-5)
        return status

    with ThreadPoolExecutor(16) as pool:
        statuses = list(pool.map(ask, range(32)))
    assert set(statuses) == {200, 429}, statuses


def test_models_health_and_info_name_the_model_and_its_corpus(endpoint: Endpoint) -> None:
    assert [model.id for model in endpoint.client.models.list().data] == [endpoint.model_id]
    assert endpoint.get("/health") == {"status": "ok"}
    info = SimpleNamespace(**endpoint.get("/info"))
    assert (info.model, info.fingerprint) == (endpoint.model_id, "0123456789ab")
    assert info.inputs == [{"name": "corpus", "id": "corpus/notes-ba9876543210", "digest": "d" * 64}]
    assert info.limits["max_tokens"] == MAX_TOKENS
    assert (info.hidden_size, info.num_threads) == (64, 1)


def test_no_text_of_a_request_reaches_a_log_file(endpoint: Endpoint) -> None:
    endpoint.client.embeddings.create(model="tiny", input=f"{CANARY} was seen today", user=CANARY)
    endpoint.post(json.dumps({"model": "tiny", "input": [CANARY * 400]}).encode())
    endpoint.post(json.dumps({"model": "tiny", "input": CANARY, CANARY: CANARY}).encode())
    endpoint.post(f'{{"input": "{CANARY}'.encode())
    files = [path for path in endpoint.log_folder.rglob("*") if path.is_file() and not path.is_symlink()]
    logs = [path for path in files if "logs" in path.parts]
    assert any("replica" in path.name for path in logs), [path.name for path in logs]
    assert [path for path in logs if b"Zebulon" in path.read_bytes()] == []


def test_a_request_without_a_key_is_refused_and_the_audit_line_of_one_with_a_key_is_in_the_log(
    endpoint: Endpoint,
) -> None:
    with pytest.raises(AuthenticationError):
        OpenAI(base_url=f"http://127.0.0.1:{endpoint.port}/v1", api_key="wrong", max_retries=0).models.list()
    endpoint.client.embeddings.create(model="tiny", input=["chest pain", "none"])
    logs = [path.read_text(errors="replace") for path in endpoint.log_folder.rglob("worker-*.err")]
    lines = [json.loads(line) for text in logs for line in text.splitlines() if line.startswith('{"key"')]
    assert any(
        (line["key"], line["route"], line["status"], line["texts"]) == ("tests", "/v1/embeddings", 200, 2)
        for line in lines
    )
    assert any((line["key"], line["route"], line["status"]) == (None, "/v1/models", 401) for line in lines)


def test_ray_s_prometheus_endpoint_shows_every_documented_metric_that_was_met(endpoint: Endpoint) -> None:
    import ray

    endpoint.client.embeddings.create(model="tiny", input="chest pain")
    port = ray.nodes()[0]["MetricsExportPort"]
    wanted = {f"ray_{m.name}" for m in METRICS} - {"ray_cm_dropped_texts", "ray_cm_proxy_refusals"}
    deadline, missing = time.monotonic() + 60, wanted
    while missing and time.monotonic() < deadline:
        time.sleep(2)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", "/metrics")
        page = connection.getresponse().read().decode()
        missing = {name for name in wanted if name not in page}
    assert missing == set()
