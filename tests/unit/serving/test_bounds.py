"""Work is bounded before it starts: what one request may cost in threads, memory and bytes, whatever its body."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clinical_modernbert.serving.body import has_more_items
from clinical_modernbert.serving.routes.fill_mask import MaskedText
from clinical_modernbert.serving.service import EmbeddingService
from fastapi import FastAPI

from tests.helpers.asgi import ask
from tests.helpers.served_app import open_app, publish
from tests.helpers.served_models import TEXTS

Open = Callable[..., tuple[FastAPI, EmbeddingService]]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish(tmp_path_factory.mktemp("model"))


@pytest.fixture
def opened(store: Path) -> Iterator[Open]:
    services: list[EmbeddingService] = []

    def open_one(**limits: Any) -> tuple[FastAPI, EmbeddingService]:
        app, service = open_app(store, **limits)
        services.append(service)
        return app, service

    yield open_one
    for service in services:
        service.close()


def post(app: FastAPI, path: str, body: Any) -> tuple[int, Any]:
    return asyncio.run(ask(app, "POST", path, body))


def test_masks_times_top_k_are_refused_before_a_thread_works(opened: Open) -> None:
    app, service = opened()
    before = time.monotonic()
    status, answer = post(app, "/fill-mask", {"inputs": "[MASK]" * 200, "parameters": {"top_k": 300}})
    assert (status, answer["error"]["code"]) == (413, "answer_too_large")
    assert "60000 tokens; the limit is max_guesses=10000: set top_k to at most 50" in answer["error"]["message"]
    assert time.monotonic() - before < 1
    assert service.scheduler.num_queued == 0
    status, answer = post(app, "/fill-mask", {"inputs": ["[MASK]" * 6000] * 2})
    assert (status, answer["error"]["param"]) == (413, "inputs")
    assert "12000 masks" in answer["error"]["message"]
    # Targets bound the guesses too: 200 masks times two.
    few = {"inputs": "[MASK]" * 200, "parameters": {"top_k": 300, "targets": ["acute", "x"]}}
    assert post(app, "/fill-mask", few)[0] == 200


def test_sequences_of_a_long_text_are_refused_by_their_characters(opened: Open) -> None:
    app, _ = opened(max_guess_characters=10_000)
    body = {"inputs": "acute distress " * 100 + "[MASK]", "parameters": {"top_k": 20}}
    status, answer = post(app, "/fill-mask", body)
    assert (status, answer["error"]["code"]) == (413, "answer_too_large")
    assert "max_guess_characters=10000: set top_k to at most 6" in answer["error"]["message"]


@pytest.mark.parametrize(
    "text", ["[MASK]", "no [MASK] distress", "[MASK] Ödem [MASK], 37.8 °C [MASK]", "a [MASK][MASK]. 'x' [MASK] !"]
)
def test_a_spliced_sequence_is_the_decoded_one(opened: Open, text: str) -> None:
    _, service = opened()
    tokenizer = service.engine.encoder.tokenizer
    ids = tokenizer(text)["input_ids"]
    masked = MaskedText(tokenizer, ids)
    everything = np.arange(len(tokenizer), dtype=np.float32)
    for number, place in enumerate(masked.positions):
        answers = masked.fill(number, everything, everything)
        decoded = [tokenizer.decode([*ids[1:place], i, *ids[place + 1 : -1]]) for i in range(len(tokenizer))]
        assert [answer.sequence for answer in answers] == decoded
        assert [answer.token_str for answer in answers] == [tokenizer.decode([i]) for i in range(len(tokenizer))]


class CountedDecode:
    """A tokenizer that counts the tokens it decodes."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer, self.num_tokens = tokenizer, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def decode(self, ids: list[int]) -> Any:
        self.num_tokens += len(ids)
        return self._tokenizer.decode(ids)


def test_a_text_is_decoded_once_and_not_once_a_guess(opened: Open) -> None:
    _, service = opened()
    tokenizer = CountedDecode(service.engine.encoder.tokenizer)
    ids = service.engine.encoder.tokenizer("acute distress [MASK] " * 40)["input_ids"]
    masked = MaskedText(tokenizer, ids)
    some = np.arange(50, dtype=np.float32)
    for number in range(40):
        masked.fill(number, some, some)
    assert tokenizer.num_tokens <= len(ids)


def test_thousands_of_masks_give_the_answers_of_few(opened: Open) -> None:
    """Logits are computed 256 masks at a time."""
    app, _ = opened()
    status, many = post(app, "/fill-mask", {"inputs": "x" + "[MASK]" * 300, "parameters": {"top_k": 2}})
    assert status == 200
    assert [len(answers) for answers in many] == [2] * 300
    assert all(answer["sequence"].startswith("x") for answers in many for answer in answers)
    assert len({answers[0]["score"] for answers in many}) > 10


def test_tokenize_answers_a_bounded_number_of_tokens(opened: Open) -> None:
    app, _ = opened(max_tokenized=100)
    status, answer = post(app, "/tokenize", {"inputs": ["acute distress " * 50] * 4})
    assert (status, answer["error"]["code"], answer["error"]["param"]) == (413, "answer_too_large", "inputs")
    assert "max_tokenized=100: split the request" in answer["error"]["message"]
    assert post(app, "/tokenize", {"inputs": TEXTS[:2]})[0] == 200


def test_tokenize_stops_at_the_limit_and_not_after_the_last_text(opened: Open) -> None:
    app, service = opened(max_tokenized=1000)
    encoder, calls = service.engine.encoder, []
    original = type(encoder.tokenizer).__call__

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(encoder.tokenizer), "__call__", lambda *a, **k: calls.append(len(a[1])) or original(*a, **k))
        assert post(app, "/tokenize", {"inputs": ["acute distress " * 10_000] * 20})[0] == 413
    assert sum(calls) < 5, calls


def test_embed_all_answers_a_bounded_number_of_numbers(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    app, service = opened(max_state_numbers=64 * 100)
    computed: list[int] = []
    run = service.scheduler.run
    monkeypatch.setattr(service.scheduler, "run", lambda *a, **k: computed.append(1) or run(*a, **k))
    status, answer = post(app, "/embed_all", {"inputs": ["acute distress " * 20] * 4})
    assert (status, answer["error"]["code"]) == (413, "answer_too_large")
    assert "max_state_numbers=6400, which is 100 tokens" in answer["error"]["message"]
    assert not computed
    status, states = post(app, "/embed_all", {"inputs": TEXTS[:2], "dimensions": 3})
    assert (status, computed) == (200, [1])
    assert {len(state) for text in states for state in text} == {3}


def test_rendered_slices_make_the_whole_answer(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    app, service = opened()
    texts = [TEXTS[0], "x", TEXTS[2]]
    whole = [post(app, path, {"inputs": texts}) for path in ("/embed", "/embed_all", "/tokenize")]
    vectors = post(app, "/v1/embeddings", {"input": texts, "model": "tiny"})
    monkeypatch.setattr("clinical_modernbert.serving.routes.tei.NUMBERS_IN_JOB", 200)
    monkeypatch.setattr("clinical_modernbert.serving.routes.openai.NUMBERS_IN_JOB", 1)
    assert [post(app, path, {"inputs": texts}) for path in ("/embed", "/embed_all", "/tokenize")] == whole
    assert post(app, "/v1/embeddings", {"input": texts, "model": "tiny"}) == vectors
    encoder = service.engine.encoder
    expected = encoder.embed(encoder.tokenize(texts), pooling="cls", normalize=True)
    np.testing.assert_allclose(whole[0][1], expected, atol=1e-5)
    assert [len(states) for states in whole[1][1]] == [len(ids) for ids in encoder.tokenize(texts)]
    assert [[token["id"] for token in tokens] for tokens in whole[2][1]] == encoder.tokenize(texts)


def test_another_answer_is_rendered_between_the_slices_of_a_large_one(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, service = opened()
    monkeypatch.setattr("clinical_modernbert.serving.routes.tei.NUMBERS_IN_JOB", 64)
    finished: list[str] = []

    def slowly(job: Callable[[], Any]) -> Any:
        time.sleep(0.01)  # on a busy machine the other request takes longer than all slices
        return job()

    async def send(path: str, text: str) -> None:
        status, _ = await ask(app, "POST", path, {"inputs": text})
        assert status == 200
        finished.append(path)

    async def body() -> None:
        large = asyncio.ensure_future(send("/embed_all", "acute distress " * 150))
        jobs: list[float] = []
        original = service.aside

        async def aside(given: Any) -> Any:
            def counted() -> Iterator[Any]:
                for job in given:
                    jobs.append(1)
                    yield partial(slowly, job)

            return await original(counted())

        service.aside = aside  # type: ignore[method-assign]
        while len(jobs) < 5:
            await asyncio.sleep(0.001)
        await send("/embed", "x")
        await large

    asyncio.run(body())
    assert finished == ["/embed", "/embed_all"]


def test_health_fails_while_a_thread_is_stuck_and_recovers(opened: Open) -> None:
    app, service = opened(stalled_after_s=0.05)
    released = threading.Event()

    async def body() -> None:
        for run in (service.with_tokenizer, service.aside):
            released.clear()
            assert (await ask(app, "GET", "/health"))[0] == 200
            stuck = asyncio.ensure_future(run([lambda: released.wait(10)]))
            await asyncio.sleep(0.2)
            status, answer = await ask(app, "GET", "/health")
            released.set()
            assert (status, answer["error"]["code"]) == (503, "unavailable")
            assert "restart" in answer["error"]["message"]
            await stuck
        assert (await ask(app, "GET", "/health"))[0] == 200

    asyncio.run(body())


@pytest.mark.parametrize(
    ("body", "items"),
    [
        ({"input": [1] * 500}, 500),
        ({"input": [[1, 2], [3] * 498]}, 500),
        ({"input": ["a"] * 500}, 500),
        ({"input": ["a, b, \\", 'x","y', "," * 1000]}, 3),
        ({"input": "," * 1000}, 1),
    ],
)
def test_items_are_counted_outside_strings(body: Any, items: int) -> None:
    text = json.dumps(body).encode()
    assert has_more_items(text, items) is False
    if items > 1:
        assert has_more_items(text, items - 2) is True


def test_a_list_of_too_many_ids_is_refused_before_it_is_parsed(opened: Open) -> None:
    app, _ = opened(max_items=1000)
    status, answer = post(app, "/v1/embeddings", {"input": [5] * 2000, "model": "tiny"})
    assert (status, answer["error"]["code"]) == (413, "too_many_items")
    assert "max_items=1000" in answer["error"]["message"]
    assert post(app, "/v1/embeddings", {"input": "one, two, " * 200, "model": "tiny", "truncate": True})[0] == 200
