"""Heads of thousands of labels, as for ICD codes: an answer is bounded, rendered in slices, and names each label once."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from clinical_modernbert.encoder.spans import labels_of
from clinical_modernbert.serving.routes import classify
from clinical_modernbert.serving.service import EmbeddingService
from fastapi import FastAPI

from tests.helpers.asgi import ask
from tests.helpers.served_app import open_app
from tests.helpers.served_models import publish_folder
from tests.helpers.tiny import save_tiny_classifier

NUM_LABELS = 600


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FastAPI, EmbeddingService]]:
    folder = tmp_path_factory.mktemp("codes")
    labels = [f"code {number}" for number in range(NUM_LABELS)]
    save_tiny_classifier(folder / "export/model", head="sequence", labels=labels)
    publish_folder(folder / "store", folder / "export")
    app, service = open_app(folder / "store", max_class_scores=2 * NUM_LABELS)
    yield app, service
    service.close()


def post(app: FastAPI, body: Any) -> tuple[int, Any]:
    return asyncio.run(ask(app, "POST", "/predict", body))


def test_labels_are_read_once_a_request(
    opened: tuple[FastAPI, EmbeddingService], monkeypatch: pytest.MonkeyPatch
) -> None:
    """8,922 codes were read again for each of 8,922 scores: one text held the event loop for eight seconds."""
    calls: list[Any] = []
    original = labels_of

    def counted(model: Any) -> tuple[str, ...]:
        calls.append(model)
        return original(model)

    monkeypatch.setattr("clinical_modernbert.serving.engine.labels_of", counted)
    status, answer = post(opened[0], {"inputs": "x"})
    assert (status, len(answer)) == (200, NUM_LABELS)
    assert len(calls) <= 2


def test_slices_make_the_whole_answer(
    opened: tuple[FastAPI, EmbeddingService], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = post(opened[0], {"inputs": [["chest pain"], ["x"]]})
    assert whole[0] == 200
    assert [len(scores) for scores in whole[1]] == [NUM_LABELS] * 2
    monkeypatch.setattr(classify, "_SCORES_IN_JOB", 1)
    assert post(opened[0], {"inputs": [["chest pain"], ["x"]]}) == whole
    best = [item["label"] for item in whole[1][1][:3]]
    status, alone = post(opened[0], {"inputs": "x", "parameters": {"top_k": 3}})
    assert (status, [item["label"] for item in alone]) == (200, best)
    status, batch = post(opened[0], {"inputs": [["x"]]})
    assert (status, [item["label"] for item in batch[0][:3]]) == (200, best)
    for scores in whole[1]:
        assert scores == sorted(scores, key=lambda item: -item["score"])
        assert {item["label"] for item in scores} == {f"code {number}" for number in range(NUM_LABELS)}


def test_more_scores_than_an_answer_may_have_are_refused_before_they_are_computed(
    opened: tuple[FastAPI, EmbeddingService], monkeypatch: pytest.MonkeyPatch
) -> None:
    app, service = opened
    computed: list[int] = []
    run = service.scheduler.run
    monkeypatch.setattr(service.scheduler, "run", lambda *a, **k: computed.append(1) or run(*a, **k))
    status, answer = post(app, {"inputs": [["x"]] * 3})
    assert (status, answer["error"]["code"]) == (413, "answer_too_large")
    assert "1800 scores, 600 for each text" in answer["error"]["message"]
    assert "max_class_scores=1200: send at most 2 texts or set top_k to at most 400" in answer["error"]["message"]
    assert not computed
    assert post(app, {"inputs": [["x"]] * 3, "parameters": {"top_k": 400}})[0] == 200
