"""``/embed_sparse``: equal to transformers' logits under SPLADE's pooling, and bounded before anything is computed."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clinical_modernbert.serving.service import EmbeddingService
from fastapi import FastAPI
from transformers import AutoModelForMaskedLM

from tests.helpers.asgi import ask
from tests.helpers.served_app import open_app, publish
from tests.helpers.served_models import LONG, TEXTS, publish_folder
from tests.helpers.tiny import save_tiny_classifier


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    publish(folder)
    return folder


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[tuple[FastAPI, EmbeddingService]]:
    app, service = open_app(folder / "store", max_sparse_values=4096)
    yield app, service
    service.close()


def post(app: FastAPI, body: Any) -> tuple[int, Any]:
    return asyncio.run(ask(app, "POST", "/embed_sparse", body))


def by_transformers(folder: Path, service: EmbeddingService, text: str) -> np.ndarray:
    """The weight of each word: the maximum over tokens of log(1 + relu(logits)), of one text alone."""
    peer = AutoModelForMaskedLM.from_pretrained(folder / "export/model", attn_implementation="eager").eval()
    tokenizer = service.engine.encoder.tokenizer
    with torch.inference_mode():
        logits_TV = peer(input_ids=torch.tensor([tokenizer(text)["input_ids"]])).logits[0]
    weights: np.ndarray = torch.log1p(torch.relu(logits_TV)).amax(0)[: len(tokenizer)].numpy()
    return weights


def test_values_are_those_of_transformers_and_splade_s_pooling(
    folder: Path, served: tuple[FastAPI, EmbeddingService]
) -> None:
    app, service = served
    # The third text has more tokens than one slice of logits.
    texts = [TEXTS[0], "x", "warfarin 5 mg daily was held. " * 40]
    assert len(service.engine.encoder.tokenizer(texts[2])["input_ids"]) > 256
    status, answer = post(app, {"inputs": texts})
    assert status == 200
    for text, words in zip(texts, answer, strict=True):
        expected = by_transformers(folder, service, text)
        assert [word["index"] for word in words] == np.flatnonzero(expected).tolist()
        np.testing.assert_allclose([word["value"] for word in words], expected[expected > 0], atol=1e-5)
    ids = service.engine.encoder.tokenizer("x")["input_ids"]
    assert post(app, {"inputs": ids})[1] == post(app, {"inputs": "x"})[1]


def test_top_k_keeps_the_heaviest_words(folder: Path, served: tuple[FastAPI, EmbeddingService]) -> None:
    app, service = served
    (words,) = post(app, {"inputs": TEXTS[0], "top_k": 5})[1]
    heaviest = np.argsort(-by_transformers(folder, service, TEXTS[0]))[:5]
    assert [word["index"] for word in words] == sorted(heaviest.tolist())
    assert post(app, {"inputs": TEXTS[0], "top_k": 10**6}) == post(app, {"inputs": TEXTS[0]})


@pytest.mark.parametrize("body", [{"inputs": ["x"] * 20}, {"inputs": ["x"] * 50, "top_k": 100}])
def test_an_answer_that_may_be_too_large_is_refused_before_it_is_computed(
    served: tuple[FastAPI, EmbeddingService], monkeypatch: pytest.MonkeyPatch, body: Any
) -> None:
    app, service = served
    size = len(service.engine.encoder.tokenizer)
    monkeypatch.setattr(service, "tokenize", None)  # the refusal needs none
    status, answer = post(app, body)
    assert (status, answer["error"]["code"], answer["error"]["param"]) == (413, "answer_too_large", "inputs")
    found = answer["error"]["message"]
    number, top_k = len(body["inputs"]), body.get("top_k", size)
    assert f"up to {number * top_k} values, {top_k} for each text; the limit is max_sparse_values=4096" in found
    assert found.endswith(f"send at most {4096 // top_k} texts or set top_k to at most {4096 // number}")


def test_what_the_refusal_names_fits(served: tuple[FastAPI, EmbeddingService]) -> None:
    app, service = served
    most = 4096 // len(service.engine.encoder.tokenizer)
    assert post(app, {"inputs": ["x"] * most})[0] == 200
    assert post(app, {"inputs": ["x"] * 50, "top_k": 4096 // 50})[0] == 200


def test_long_texts_are_refused_or_cut(folder: Path) -> None:
    app, service = open_app(folder / "store", max_tokens=64)
    assert post(app, {"inputs": LONG})[1]["error"]["code"] == "text_too_long"
    assert post(app, {"inputs": LONG, "truncate": True})[0] == 200
    assert post(app, {"inputs": ""})[1]["error"]["code"] == "empty_input"
    service.close()


def test_a_model_without_a_masked_language_head_is_refused(tmp_path: Path) -> None:
    save_tiny_classifier(tmp_path / "export/model", head="sequence", labels=("a", "b"))
    publish_folder(tmp_path / "store", tmp_path / "export")
    app, service = open_app(tmp_path / "store")
    status, answer = post(app, {"inputs": "x"})
    service.close()
    assert (status, answer["error"]["code"]) == (404, "no_such_head")
    assert "needs a masked-language head" in answer["error"]["message"]
