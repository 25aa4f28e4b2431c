"""Places in the queue and tokens of a key: no request is told to wait for what never comes, or pays for what it was refused."""

import asyncio
import hashlib
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from clinical_modernbert.serving.service import EmbeddingService
from fastapi import FastAPI

from tests.helpers.asgi import ask
from tests.helpers.served_app import open_app, publish

DIGEST = hashlib.sha256(b"lab").hexdigest()


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FastAPI, EmbeddingService]]:
    app, service = open_app(
        publish(tmp_path_factory.mktemp("model")),
        keys=f"lab {DIGEST} tokens_per_minute=100000",
        max_tokens=16,
        max_texts=4,
        max_queued_texts=40,
    )
    yield app, service
    service.close()


def post(app: FastAPI, path: str, body: Any) -> tuple[int, Any]:
    return asyncio.run(ask(app, "POST", path, body, key="lab"))


def test_the_windows_of_one_request_are_no_other_request_of_its_key(opened: tuple[FastAPI, EmbeddingService]) -> None:
    """Two texts of 13 windows: more than the share of a key, 20, and less than the queue."""
    app, _ = opened
    text = "x" * 180  # a token each
    status, answer = post(app, "/v1/embeddings", {"input": [text, text], "windows": True})
    assert (status, [item["windows"] for item in answer["data"]]) == (200, [13, 13])
    status, answer = post(app, "/v1/embeddings", {"input": [text] * 4, "windows": True})
    assert (status, answer["error"]["code"]) == (413, "too_many_texts")
    assert "52 texts and windows of texts; the limit is max_queued_texts=40" in answer["error"]["message"]


def test_a_refused_request_costs_no_tokens(
    opened: tuple[FastAPI, EmbeddingService], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    app, service = opened
    texts = ["chest pain"] * 4

    def tokens() -> tuple[int, int]:
        caplog.clear()
        with caplog.at_level(logging.INFO, logger="clinical_modernbert.audit"):
            status, _ = post(app, "/embed", {"inputs": texts})
        (line,) = [json.loads(record.getMessage()) for record in caplog.records]
        return status, line["tokens"]

    status, computed = tokens()
    assert status == 200 and computed > 8
    with monkeypatch.context() as patch:
        patch.setattr(service.scheduler.speed, "tokens_per_s", 0.01)
        assert tokens() == (413, 0)
    assert tokens() == (200, computed)


def test_tokenize_is_in_the_audit_line(
    opened: tuple[FastAPI, EmbeddingService], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="clinical_modernbert.audit"):
        assert post(opened[0], "/tokenize", {"inputs": ["x", "y"]})[0] == 200
    (line,) = [json.loads(record.getMessage()) for record in caplog.records]
    assert (line["texts"], line["tokens"]) == (2, 0)
