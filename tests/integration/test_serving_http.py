"""The same app on a bare server: keys, limits, clients that leave, and the clients of OpenAI and Hugging Face, unmodified."""

import copy
import http.client
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clinical_modernbert.serving.client import Client, EndpointError
from huggingface_hub import InferenceClient
from openai import AuthenticationError, OpenAI

from tests.helpers.bare_server import KEYS, LIMITS, Server, key_lines
from tests.helpers.ports import free_port
from tests.helpers.served_models import CANARY, LONG, TEXTS, publish_model


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("store")
    publish_model(root, tmp_path_factory.mktemp("export"))
    running = Server(root, key_lines())
    yield running
    running.close()


@pytest.mark.parametrize("key", [None, "wrong", "", "k-full-00"])
def test_no_route_but_health_answers_without_a_known_key(server: Server, key: str | None) -> None:
    for path in ("/v1/embeddings", "/embed", "/fill-mask", "/tokenize", "/similarity", "/embed_all", "/", "/absent"):
        status, answer = server.post(path, {"inputs": CANARY}, key)
        assert (status, answer["error"]["code"]) == (401, "invalid_api_key"), path
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    connection.request("GET", "/health")
    assert connection.getresponse().status == 200


def test_several_keys_work_at_once_and_a_scope_is_kept(server: Server) -> None:
    for key in KEYS.values():
        assert server.post("/embed", {"inputs": "x"}, key)[0] == 200
    status, answer = server.post("/fill-mask", {"inputs": "x [MASK]"}, KEYS["vectors"])
    assert (status, answer["error"]["code"]) == (403, "insufficient_scope")


def test_the_openai_client_gets_vectors_with_its_key_and_an_authentication_error_without(server: Server) -> None:
    client = OpenAI(base_url=f"{server.url}/v1", api_key=KEYS["old"], max_retries=0)
    found = client.embeddings.create(model="tiny", input=TEXTS[:2])
    np.testing.assert_allclose(np.array([d.embedding for d in found.data]), server.offline(TEXTS[:2]), atol=1e-5)
    with pytest.raises(AuthenticationError):
        OpenAI(base_url=f"{server.url}/v1", api_key="wrong", max_retries=0).embeddings.create(model="tiny", input="x")


def test_hugging_face_s_client_embeds_compares_and_fills(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    # Offline, this client refuses even a server on the same machine.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    at = lambda path: InferenceClient(model=server.url + path, token=KEYS["full"])  # noqa: E731
    for path in ("", "/embed"):
        found = at(path).feature_extraction("no acute distress", normalize=True, truncate=True)
        np.testing.assert_allclose(np.asarray(found), server.offline(["no acute distress"]), atol=1e-5)
    one, *rest = server.offline(TEXTS[:2] + TEXTS[3:])
    scores = at("/similarity").sentence_similarity(TEXTS[0], [TEXTS[1], *TEXTS[3:]])
    np.testing.assert_allclose(scores, np.stack(rest) @ one, atol=1e-5)
    filled = at("/fill-mask").fill_mask("chest [MASK] radiating", top_k=3)
    assert len(filled) == 3
    assert filled[0].score >= filled[1].score >= filled[2].score
    assert filled[0].token_str in filled[0].sequence


def test_fill_mask_gives_the_probabilities_of_the_whole_model(server: Server) -> None:
    import torch
    from transformers import ModernBertForMaskedLM

    tokenizer = server.engine.encoder.tokenizer
    text = "chest [MASK] radiating to the [MASK] arm"
    status, answer = server.post("/fill-mask", {"inputs": [text, "no [MASK]"], "parameters": {"top_k": 4}})
    assert status == 200
    assert [len(answer[0]), len(answer[1])] == [2, 4]  # two masks of four; one mask, its four
    peer = ModernBertForMaskedLM(copy.deepcopy(server.engine.encoder.model.config))
    peer.config._attn_implementation = "eager"
    peer.load_state_dict(server.engine.encoder.model.state_dict())
    encoded = tokenizer(text, return_tensors="pt")
    with torch.inference_mode():
        logits = peer.eval()(input_ids=encoded["input_ids"], attention_mask=encoded["attention_mask"]).logits[0]
    for place, mine in zip(
        (encoded["input_ids"][0] == tokenizer.mask_token_id).nonzero()[:, 0], answer[0], strict=True
    ):
        likely = logits[place, : len(tokenizer)].softmax(-1)
        for item in mine:
            assert item["score"] == pytest.approx(float(likely[item["token"]]), abs=1e-5)
        assert mine[0]["score"] == pytest.approx(float(likely.max()), abs=1e-5)


def test_fill_mask_keeps_to_its_targets_and_refuses_text_without_a_mask(server: Server) -> None:
    body = {"inputs": "no [MASK] distress", "parameters": {"targets": ["acute", "pain"]}}
    status, answer = server.post("/fill-mask", body)
    assert (status, {item["token_str"].strip() for item in answer}) == (200, {"acute", "pain"})
    status, answer = server.post("/fill-mask", {"inputs": ["a [MASK]", CANARY]})
    assert (status, answer["error"]["code"], answer["error"]["param"]) == (422, "no_mask", "inputs[1]")


def test_embed_all_gives_every_token_and_tokenize_its_place(server: Server) -> None:
    status, tokens = server.post("/tokenize", {"inputs": [TEXTS[0]]})
    _, states = server.post("/embed_all", {"inputs": TEXTS[0]})
    assert status == 200
    assert len(tokens[0]) == len(states[0])
    words = [t for t in tokens[0] if not t["special"]]
    assert [t["special"] for t in tokens[0]] == [True, *[False] * len(words), True]
    assert "".join(TEXTS[0][t["start"] : t["stop"]] for t in words).replace(" ", "") == TEXTS[0].replace(" ", "")
    first = np.array(states[0][0])
    np.testing.assert_allclose(first / np.linalg.norm(first), server.offline([TEXTS[0]])[0], atol=1e-5)


def test_long_text_is_read_in_windows_whose_average_is_weighted_by_tokens(server: Server) -> None:
    encoder = server.engine.encoder
    ids = encoder.tokenize([LONG])[0]
    status, answer = server.post("/v1/embeddings", {"model": "tiny", "input": [LONG, "x"], "windows": True})
    assert status == 200, answer
    number = answer["data"][0]["windows"]
    inner = ids[1:-1]
    assert number == -(-len(inner) // 62)
    cuts = [len(inner) * i // number for i in range(number + 1)]
    pieces = [[ids[0], *inner[a:b], ids[-1]] for a, b in pairwise(cuts)]
    raw = encoder.embed(pieces, pooling="cls", normalize=False)
    mean = np.average(raw, axis=0, weights=[len(p) - 2 for p in pieces])
    np.testing.assert_allclose(answer["data"][0]["embedding"], mean / np.linalg.norm(mean), atol=1e-5)
    assert "windows" not in answer["data"][1]


def test_windows_weigh_by_tokens_and_not_by_number(server: Server) -> None:
    """Two windows of 31 and 32 tokens: their plain mean would be another vector."""
    encoder = server.engine.encoder
    ids = [*encoder.tokenize([LONG])[0][:64], encoder.tokenizer.sep_token_id]
    status, answer = server.post("/v1/embeddings", {"model": "tiny", "input": ids, "windows": True})
    assert (status, answer["data"][0]["windows"]) == (200, 2)
    raw = encoder.embed([[*ids[:32], ids[-1]], [ids[0], *ids[32:]]], pooling="cls", normalize=False)
    for weights, same in (([31, 32], True), ([1, 1], False)):
        mean = np.average(raw, axis=0, weights=weights)
        worst = np.abs(np.array(answer["data"][0]["embedding"]) - mean / np.linalg.norm(mean)).max()
        assert (worst < 1e-6) == same, (weights, worst)


def test_what_tei_s_clients_send_and_read_beside_the_texts(server: Server) -> None:
    similar = {"source_sentence": "x", "sentences": ["y"]}
    for path, body in (("/embed", {"inputs": "x"}), ("/embed_all", {"inputs": "x"}), ("/tokenize", {"inputs": "x"})):
        assert server.post(path, {**body, "prompt_name": None})[0] == 200
        status, refused = server.post(path, {**body, "prompt_name": CANARY})
        assert (status, refused["error"]["code"], refused["error"]["param"]) == (
            422,
            "invalid_prompt_name",
            "prompt_name",
        )
        assert "must be null" in refused["error"]["message"] and CANARY not in str(refused)
    assert server.post("/similarity", {"inputs": similar, "parameters": {"prompt_name": None}})[0] == 200
    status, refused = server.post("/similarity", {"inputs": similar, "parameters": {"prompt_name": CANARY}})
    assert status == 422 and "prompt_name must be null" in refused["error"]["message"]
    assert CANARY not in str(refused)
    assert server.get("/info")[1]["auto_truncate"] is False
    for path in ("/embed", "/tokenize"):
        status, refused = server.post(path, {"inputs": ["x"] * (LIMITS["max_texts"] + 1)})
        assert (status, refused["error"]["param"]) == (413, "inputs")
        assert refused["error"]["message"].startswith("inputs has 301 texts")


def test_truncation_from_either_end(server: Server) -> None:
    encoder = server.engine.encoder
    ids = encoder.tokenize([LONG + "end"])[0]
    for side, kept in (("Right", ids[1:63]), ("Left", ids[-63:-1])):
        body = {"inputs": LONG + "end", "truncate": True, "truncation_direction": side}
        _, answer = server.post("/embed", body)
        expected = encoder.embed([[ids[0], *kept, ids[-1]]], pooling="cls", normalize=True)
        np.testing.assert_allclose(answer, expected, atol=1e-5)
    assert server.post("/embed", {"inputs": LONG})[0] == 422


def test_a_recipe_that_averages_gives_the_mean_of_every_text(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    texts = ["warfarin 5 mg daily", "x", "acute kidney injury"]
    publish_model(tmp_path, tmp_path_factory.mktemp("export"))
    averaging = Server(tmp_path, key_lines(), pooling="mean")
    try:
        status, answer = averaging.post("/embed", {"inputs": texts})
        assert status == 200, answer
        np.testing.assert_allclose(answer, averaging.offline(texts), atol=1e-5)
        encoder = averaging.engine.encoder
        first = encoder.embed(encoder.tokenize(texts), pooling="cls", normalize=True)
        assert np.abs(first - np.array(answer)).max() > 1e-3
    finally:
        averaging.close()


@pytest.mark.parametrize(
    ("path", "inputs"),
    [
        ("/embed", ["x", LONG]),
        ("/embed_all", ["x", LONG]),
        ("/similarity", {"source_sentence": "x", "sentences": [LONG]}),
    ],
)
def test_cut_texts_are_counted_in_a_header(server: Server, path: str, inputs: Any) -> None:
    cut = {"parameters": {"truncate": True}} if path == "/similarity" else {"truncate": True}
    status, headers, _ = server.ask(path, {"inputs": inputs, **cut})
    assert (status, headers["x-truncated"]) == (200, "1")


def test_a_large_body_is_refused_by_its_header_and_by_its_bytes(server: Server) -> None:
    status, answer = server.post("/embed", b"x" * 200_000)
    assert (status, answer["error"]["code"]) == (413, "body_too_large")
    assert "max_body_bytes=100000" in answer["error"]["message"]
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    chunks = (b"x" * 30_000 for _ in range(5))
    headers = {"Authorization": f"Bearer {KEYS['full']}"}
    connection.request("POST", "/embed", chunks, headers, encode_chunked=True)
    assert connection.getresponse().status == 413


def test_a_body_that_does_not_come_is_a_408(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        head = (
            f"POST /embed HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEYS['full']}\r\nContent-Length: 50\r\n\r\n{{"
        )
        connection.sendall(head.encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 408")


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class _Hold:
    """Keeps batches from computing, as a long batch does, until ``gate`` is set."""

    def __init__(self, server: Server) -> None:
        self.begun, self.gate = threading.Event(), threading.Event()
        server.before_batch = self._wait

    def _wait(self) -> None:
        self.begun.set()
        self.gate.wait(20)


@pytest.fixture
def hold(server: Server) -> Iterator[_Hold]:
    holding = _Hold(server)
    yield holding
    holding.gate.set()


def test_a_request_that_takes_too_long_is_a_504_and_too_many_at_once_are_429(server: Server, hold: _Hold) -> None:
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: server.post("/embed", {"inputs": "x"}), range(20)))
    hold.gate.set()
    causes = [answer["error"]["code"] for _, answer in answers]
    assert {status for status, _ in answers} == {504, 429}, answers
    assert causes.count("request_timeout") == LIMITS["max_requests"]
    assert server.post("/embed", {"inputs": "x"})[0] == 200


def test_a_client_that_leaves_takes_its_texts_with_it(server: Server, hold: _Hold) -> None:
    # One batch computes; later texts wait in the scheduler.
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(server.post, "/embed", {"inputs": "first"})
        assert hold.begun.wait(4)
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        headers = {"Authorization": f"Bearer {KEYS['full']}", "Content-Type": "application/json"}
        connection.request("POST", "/embed", json.dumps({"inputs": ["gone"] * 50}).encode(), headers)
        _until(lambda: server.service.scheduler.num_tokens_ahead > 100)  # tokenised and in the queue
        connection.close()
        _until(lambda: server.service.scheduler.num_queued == 0)
        hold.gate.set()
        assert first.result()[0] == 200
    server.post("/embed", {"inputs": "x"})
    assert ("cm_dropped_texts", 50, {"model": server.engine.model_id}) in server.records


def test_targets_and_guesses_are_no_texts_that_were_tokenised(server: Server) -> None:
    server.records.clear()
    body = {"inputs": "chest [MASK]", "parameters": {"targets": ["x"]}}
    assert server.post("/fill-mask", body)[0] == 200
    assert [name for name, _, _ in server.records].count("cm_tokenize_seconds") == 1


def test_the_audit_line_names_key_route_and_counts_and_no_text(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    requests: list[tuple[str, Any, str]] = [
        ("/embed", {"inputs": [CANARY, "x"]}, KEYS["old"]),
        ("/fill-mask", {"inputs": CANARY}, KEYS["full"]),
        ("/Zebulon", {"inputs": CANARY, CANARY: 1}, KEYS["full"]),
        ("/embed", {"inputs": CANARY}, CANARY),
        ("/tokenize", {"inputs": CANARY, CANARY: CANARY}, KEYS["full"]),
    ]
    lines: list[dict[str, Any]] = []

    def arrived(request: str) -> bool:
        records = [r for r in caplog.records if r.name == "clinical_modernbert.audit"]
        found = [line for line in map(json.loads, (r.getMessage() for r in records)) if line["request_id"] == request]
        lines.extend(found)
        return bool(found)

    with caplog.at_level(logging.DEBUG):
        for number, (path, body, key) in enumerate(requests):
            server.ask(path, body, key, {"X-Request-Id": f"audit-{number}"})
            _until(
                lambda request=f"audit-{number}": arrived(request)
            )  # a line follows its answer, by what the machine takes
    assert [(e["key"], e["route"], e["status"], e["texts"]) for e in lines] == [
        ("old", "/embed", 200, 2),
        ("full", "/fill-mask", 422, 0),
        ("full", "other", 404, 0),
        (None, "/embed", 401, 0),
        ("full", "/tokenize", 422, 0),
    ]
    assert lines[0]["tokens"] > 4
    assert lines[0]["ms"] > 0
    assert "Zebulon" not in caplog.text
    assert "Zebulon" not in str(server.records)


def test_the_client_of_the_house_retries_what_may_pass_and_nothing_else(server: Server) -> None:
    client = Client(server.url, key=KEYS["full"], max_attempts=3)
    np.testing.assert_allclose(client.embed(TEXTS[:2], texts_per_request=1), server.offline(TEXTS[:2]), atol=1e-5)
    with pytest.raises(EndpointError, match="attempt 1") as refused:
        client.embed([LONG])
    assert (refused.value.status, refused.value.code) == (422, "text_too_long")
    with pytest.raises(EndpointError, match="attempt 2"):
        Client(f"http://127.0.0.1:{free_port()}", max_attempts=2).info()
    hold = _Hold(server)
    threading.Timer(5.5, hold.gate.set).start()  # longer than request_timeout_s: a second attempt would take as long
    before = client.attempts.num_first_failures
    with pytest.raises(EndpointError, match="attempt 1") as refused:
        client.embed(["x"], model="tiny")
    assert (refused.value.status, refused.value.code) == (504, "request_timeout")
    assert client.attempts.num_first_failures == before + 1


def test_the_openapi_page_is_whole_and_no_page_loads_from_elsewhere(server: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    connection.request("GET", "/openapi.json")
    page = json.loads(connection.getresponse().read())
    assert {"/v1/embeddings", "/embed", "/embed_all", "/similarity", "/tokenize", "/fill-mask"} <= set(page["paths"])
    schemas = page["components"]["schemas"]
    for name in ("EmbeddingsRequest", "EmbedRequest", "SimilarityRequest", "TokenizeRequest", "FillMaskRequest"):
        assert any("examples" in field for field in schemas[name]["properties"].values()), name
    assert server.post("/docs", {})[0] == 404
