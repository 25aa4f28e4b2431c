"""Reranking: by the cosine of vectors, or by the head of a cross-encoder."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from clinical_modernbert.encoder import build_model
from clinical_modernbert.recipe import ServeRecipe
from clinical_modernbert.recipe.corpus import TokenizerSection
from clinical_modernbert.recipe.pretrain import ModelSection
from clinical_modernbert.serving.api import build_api
from clinical_modernbert.serving.engine import load_engine
from clinical_modernbert.serving.service import EmbeddingService
from clinical_modernbert.tokenizer import build_tokenizer, padded_vocabulary_size, special_ids
from fastapi import FastAPI
from transformers import BertConfig, BertForSequenceClassification, ModernBertForSequenceClassification

from tests.helpers.asgi import answer_of, ask
from tests.helpers.served_app import open_app, publish
from tests.helpers.served_models import TEXTS, publish_folder

LONG = "acute distress " * 600
"""Longer than the model reads."""
QUERY, DOCUMENTS = "chest pain", ["no acute distress", "chest pain radiating to the left arm", "x"]


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastAPI]:
    app, service = open_app(publish(tmp_path_factory.mktemp("vectors")))
    yield app
    service.close()


def cross_encoder(folder: Path, architecture: str) -> tuple[FastAPI, EmbeddingService]:
    """An app over a model with one label and random weights."""
    tokenizer = build_tokenizer(
        TokenizerSection(base="train", vocabulary_size=512), TEXTS * 3, clinical_words=frozenset()
    )
    size = padded_vocabulary_size(tokenizer)
    torch.manual_seed(0)
    model: Any
    if architecture == "modernbert":
        shape = ModelSection(
            hidden_size=64, intermediate_size=96, num_layers=2, num_heads=4, max_position_embeddings=128
        )
        config = build_model(shape, vocabulary_size=size, special_ids=special_ids(tokenizer), seed=0).config
        config.num_labels = 1
        model = ModernBertForSequenceClassification(config)
    else:
        config = BertConfig(
            vocab_size=size,
            hidden_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            num_labels=1,
        )
        model = BertForSequenceClassification(config)
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    publish_folder(folder.parent / "store", folder)
    recipe = ServeRecipe.model_validate({"name": "tiny", "model": "tiny"})
    service = EmbeddingService(load_engine(str(folder.parent / "store"), recipe))
    return build_api(service), service


def post(app: FastAPI, path: str, body: Any) -> tuple[int, Any]:
    return asyncio.run(ask(app, "POST", path, body))


def test_vectors_rank_by_their_cosine(vectors: FastAPI) -> None:
    status, ranks = post(vectors, "/rerank", {"query": QUERY, "texts": DOCUMENTS, "return_text": True})
    assert status == 200
    pair = {"source_sentence": QUERY, "sentences": DOCUMENTS}
    cosines = post(vectors, "/similarity", {"inputs": pair})[1]
    assert [rank["index"] for rank in ranks] == sorted(range(3), key=lambda i: -cosines[i])
    for rank in ranks:
        assert rank["score"] == pytest.approx(cosines[rank["index"]], abs=1e-6)
        assert rank["text"] == DOCUMENTS[rank["index"]]


def test_the_other_form_has_the_same_order(vectors: FastAPI) -> None:
    ranks = post(vectors, "/rerank", {"query": QUERY, "texts": DOCUMENTS})[1]
    assert "text" not in ranks[0]
    body = {"query": QUERY, "documents": DOCUMENTS, "top_n": 2, "return_documents": True}
    status, answer = post(vectors, "/v1/rerank", body)
    assert status == 200 and answer["usage"]["total_tokens"] > 0
    assert [result["index"] for result in answer["results"]] == [rank["index"] for rank in ranks[:2]]
    assert answer["results"][0]["document"] == {"text": DOCUMENTS[ranks[0]["index"]]}
    assert post(vectors, "/v1/rerank", {**body, "model": "other"})[0] == 404


def test_empty_queries_and_documents_are_named(vectors: FastAPI) -> None:
    for body, param in (
        ({"query": "", "documents": DOCUMENTS}, "query"),
        ({"query": QUERY, "documents": []}, "documents"),
        ({"query": QUERY, "documents": ["a", ""]}, "documents[1]"),
    ):
        status, answer = post(vectors, "/v1/rerank", body)
        assert (status, answer["error"]["param"]) == (400, param)


def test_bodies_that_litellm_sends_are_answered(vectors: FastAPI) -> None:
    """As version 1.110.2 sends them for ``huggingface/`` and ``cohere/``."""
    common = {"query": QUERY, "top_n": 2}
    tei = {"raw_scores": False, "truncation_direction": "Right", **common, "texts": DOCUMENTS, "return_text": True}
    status, ranks = post(vectors, "/rerank", tei)
    assert (status, len(ranks)) == (200, 2)
    body = {"model": "tiny", **common, "documents": DOCUMENTS, "return_documents": True}
    status, answer = post(vectors, "/v2/rerank", body)
    assert status == 200
    assert [result["index"] for result in answer["results"]] == [rank["index"] for rank in ranks]
    assert post(vectors, "/rerank", {**tei, "top_n": 0})[1]["error"]["param"] == "top_n"


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/rerank", {"query": LONG, "texts": ["x"]}, "query"),
        ("/rerank", {"query": "x", "texts": ["x", LONG]}, "texts[1]"),
        ("/v1/rerank", {"query": "x", "documents": [LONG]}, "documents[0]"),
        ("/similarity", {"inputs": {"source_sentence": LONG, "sentences": ["x"]}}, "inputs.source_sentence"),
        ("/similarity", {"inputs": {"source_sentence": "x", "sentences": ["x", ""]}}, "inputs.sentences[1]"),
        ("/similarity", {"inputs": {"source_sentence": "x", "sentences": []}}, "inputs.sentences"),
    ],
)
def test_a_text_that_is_refused_has_the_name_of_its_field(vectors: FastAPI, path: str, body: Any, param: str) -> None:
    status, answer = post(vectors, path, body)
    assert (status // 100, answer["error"]["param"]) == (4, param)
    assert answer["error"]["message"].startswith(param)


def test_the_query_is_none_of_the_texts_that_a_request_may_have(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    app, service = open_app(publish(tmp_path_factory.mktemp("few")), max_texts=3)
    assert post(app, "/rerank", {"query": "x", "texts": ["a", "b", "c"]})[0] == 200
    status, answer = post(app, "/rerank", {"query": "x", "texts": ["a"] * 4})
    assert (status, answer["error"]["message"][:37]) == (413, "texts has 4 texts; the limit is max_t")
    pair = {"source_sentence": "x", "sentences": ["a", "b", "c"]}
    assert post(app, "/similarity", {"inputs": pair})[0] == 200
    service.close()


def test_texts_that_were_cut_are_counted_in_a_header(vectors: FastAPI) -> None:
    body = {"query": "x", "documents": ["a", LONG], "truncate": True}
    status, headers, _ = asyncio.run(answer_of(vectors, "POST", "/v1/rerank", body))
    assert (status, headers["x-truncated"]) == (200, "1")


def test_a_query_is_not_repeated_without_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """200,000 characters before each of 2,048 short texts are 100 million tokens: minutes in a thread that all requests share."""
    app, service = cross_encoder(tmp_path / "export", "modernbert")
    tokenizer, sizes = service.engine.encoder.tokenizer, []
    original = type(tokenizer).__call__

    def counted(self: Any, *texts: Any, **options: Any) -> Any:
        sizes.append(sum(len(text) for some in texts for text in some))
        return original(self, *texts, **options)

    monkeypatch.setattr(type(tokenizer), "__call__", counted)
    for truncate in (False, True):  # no text would be left in a pair
        body = {"query": "acute " * 33_000, "texts": ["x"] * 2048, "truncate": truncate}
        status, answer = post(app, "/rerank", body)
        assert (status, answer["error"]["code"], answer["error"]["param"]) == (422, "text_too_long", "query")
        assert "next to a text it may have at most 126" in answer["error"]["message"]
    assert sum(sizes) < 500_000
    monkeypatch.setattr(service.scheduler.speed, "tokens_per_s", 100.0)
    status, answer = post(app, "/rerank", {"query": "acute " * 60, "texts": ["x"] * 2048})
    assert (status, answer["error"]["code"]) == (413, "request_too_long")
    assert sum(sizes) < 500_000
    monkeypatch.setattr(service.scheduler.speed, "tokens_per_s", None)
    assert post(app, "/rerank", {"query": "acute " * 60, "texts": ["x"] * 300})[0] == 200
    service.close()
    assert max(sizes[2:]) <= 33_000  # the pairs of a slice, each with the query


def test_a_head_of_one_label_scores_pairs_as_transformers_does(tmp_path: Path) -> None:
    app, service = cross_encoder(tmp_path / "export", "modernbert")
    raw = {
        rank["index"]: rank["score"]
        for rank in post(app, "/rerank", {"query": QUERY, "texts": DOCUMENTS, "raw_scores": True})[1]
    }
    likely = post(app, "/rerank", {"query": QUERY, "texts": DOCUMENTS})[1]
    service.close()
    reference = ModernBertForSequenceClassification.from_pretrained(tmp_path / "export/model").eval()
    tokenizer = service.engine.encoder.tokenizer
    for i, document in enumerate(DOCUMENTS):
        inputs = tokenizer(QUERY, document, return_tensors="pt", return_token_type_ids=False)
        with torch.no_grad():
            expected = float(reference(**inputs).logits[0, 0])
        assert raw[i] == pytest.approx(expected, abs=1e-5)
        (score,) = (rank["score"] for rank in likely if rank["index"] == i)
        assert score == pytest.approx(1 / (1 + 2.718281828**-expected), abs=1e-5)


def test_a_cross_encoder_that_needs_token_types_is_refused(tmp_path: Path) -> None:
    app, service = cross_encoder(tmp_path / "export", "bert")
    status, answer = post(app, "/rerank", {"query": QUERY, "texts": DOCUMENTS})
    service.close()
    assert (status, answer["error"]["code"]) == (404, "no_such_head")
    assert "token types" in answer["error"]["message"]
