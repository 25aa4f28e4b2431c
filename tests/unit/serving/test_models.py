"""Several models behind one address: a request chooses by ``model``, and one compute thread runs the batches of all."""

import asyncio
import hashlib
import json
import logging
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clinical_modernbert.errors import RecipeError
from clinical_modernbert.recipe import ServeRecipe
from clinical_modernbert.serving.api import build_api
from clinical_modernbert.serving.engine import load_engine
from clinical_modernbert.serving.key_ring import KeyRing
from clinical_modernbert.serving.keys import parse_keys
from clinical_modernbert.serving.models import ServedModels
from clinical_modernbert.serving.service import EmbeddingService
from clinical_modernbert.serving.tracing import no_trace
from fastapi import FastAPI
from pydantic import ValidationError

from tests.helpers.asgi import answer_of
from tests.helpers.bare_server import InterruptedEngine
from tests.helpers.served_models import publish_folder
from tests.helpers.tiny import save_tiny_classifier, save_tiny_model

ONE, TWO, LABELS = "one-0123456789ab", "two-0123456789ab", "labels-0123456789ab"


class Served:
    """The app over three models, with the metrics that it recorded."""

    def __init__(self, root: Path) -> None:
        recipe = ServeRecipe.model_validate(
            {"name": "all", "model": "one", "more_models": [{"model": "two", "pooling": "mean"}, "labels"]}
        )
        self.records: list[tuple[str, float, Mapping[str, str]]] = []
        self.threads: list[int] = []
        engines = [
            InterruptedEngine.of(load_engine(str(root), one), lambda: self.threads.append(threading.get_ident()))
            for one in recipe.each_model()
        ]
        self.models = ServedModels.of_engines(
            engines, record=lambda *record: self.records.append(record), trace=no_trace
        )
        self.open = build_api(*self.models.services)
        lines = [f"{name} {hashlib.sha256(f'k-{name}'.encode()).hexdigest()}" for name in ("all", "some", "wrong")]
        lines[1] += " models=two,labels"
        lines[2] += " models=other"
        self.closed = build_api(*self.models.services, keys=KeyRing(parse_keys("\n".join(lines), origin="test")))

    def ask(self, path: str, body: Any = None, *, key: str | None = None) -> tuple[int, dict[str, str], Any]:
        app: FastAPI = self.closed if key else self.open
        path, _, query = path.partition("?")
        status, headers, content = asyncio.run(
            answer_of(
                app, "GET" if body is None else "POST", path, body,
                headers={"authorization": f"Bearer k-{key}"} if key else {}, query=query,
            )
        )  # fmt: skip
        return status, headers, json.loads(content)

    def offline(self, number: int, text: str) -> np.ndarray:
        engine = self.models.services[number].engine
        return engine.encoder.embed(engine.encoder.tokenize([text]), pooling=engine.pooling, normalize=True)[0]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, folder = tmp_path_factory.mktemp("store"), tmp_path_factory.mktemp("exports")
    save_tiny_model(folder / "one/model")
    save_tiny_model(folder / "two/model", texts=("chest pain radiating to the left arm", "warfarin " * 50))
    save_tiny_classifier(folder / "labels/model", head="sequence", labels=("a", "b", "c"))
    for name in ("one", "two", "labels"):
        publish_folder(root, folder / name, name=name)
    return root


@pytest.fixture(scope="module")
def served(root: Path) -> Iterator[Served]:
    served = Served(root)
    yield served
    served.models.close()


@pytest.mark.parametrize(("name", "number"), [(None, 0), ("one", 0), (ONE, 0), ("two", 1), (TWO, 1), ("labels", 2)])
def test_a_request_chooses_its_model_in_the_body_or_in_the_address(
    served: Served, name: str | None, number: int
) -> None:
    expected = served.offline(number, "chest pain")
    model_id = served.models.ids[number]
    in_address = f"?model={name}" if name else ""
    in_body = {"model": name} if name else {}
    for path, body in (("/v1/embeddings", in_body), (f"/v1/embeddings{in_address}", {})):
        status, headers, answer = served.ask(path, {"input": "chest pain", **body})
        assert (status, answer["model"], headers["x-model"]) == (200, model_id, model_id)
        np.testing.assert_allclose(answer["data"][0]["embedding"], expected, atol=1e-5)
    status, headers, vectors = served.ask(f"/embed{in_address}", {"inputs": "chest pain"})
    assert (status, headers["x-model"]) == (200, model_id)
    np.testing.assert_allclose(vectors[0], expected, atol=1e-5)
    status, _, info = served.ask(f"/info{in_address}")
    assert (status, info["model"], info["pooling"]) == (200, model_id, "mean" if number == 1 else "cls")


def test_routes_of_a_head_find_the_model_that_has_it(served: Served) -> None:
    assert served.ask("/predict", {"inputs": "x"})[2]["error"]["code"] == "no_such_head"
    status, _, labels = served.ask("/predict?model=labels", {"inputs": "x"})
    assert (status, {label["label"] for label in labels}) == (200, {"a", "b", "c"})


@pytest.mark.parametrize("name", ["other", "", "on", "one-0123"])
def test_an_unknown_model_is_refused_with_the_names_that_there_are(served: Served, name: str) -> None:
    for path, body in (("/v1/embeddings", {"input": "x", "model": name}), (f"/embed?model={name}&", {"inputs": "x"})):
        status, headers, answer = served.ask(path, body)
        assert (status, answer["error"]["code"], answer["error"]["param"]) == (404, "model_not_found", "model"), path
        assert f"one of {ONE}, {TWO}, {LABELS}, one, two, labels, or absent" in answer["error"]["message"]
        assert "x-model" not in headers
    assert served.ask("/v1/models/other")[0] == 404


def test_two_models_in_one_request_are_refused(served: Served) -> None:
    status, _, answer = served.ask("/v1/embeddings?model=two", {"input": "x", "model": "one"})
    assert (status, answer["error"]["code"]) == (422, "invalid_model")
    assert served.ask("/v1/embeddings?model=two", {"input": "x", "model": "two"})[0] == 200


def test_models_are_listed_and_the_page_names_them(served: Served) -> None:
    assert [card["id"] for card in served.ask("/v1/models")[2]["data"]] == [ONE, TWO, LABELS]
    assert served.ask("/v1/models/two")[2]["id"] == TWO
    assert served.ask("/health") == (
        200,
        {"content-length": "15", "content-type": "application/json"},
        {"status": "ok"},
    )
    page = served.open.openapi()["paths"]
    (parameter,) = page["/embed"]["post"]["parameters"]
    assert (parameter["in"], parameter["required"]) == ("query", False)
    assert parameter["schema"]["enum"] == [ONE, TWO, LABELS, "one", "two", "labels", None]
    assert "parameters" not in page["/health"]["get"]


def test_a_key_uses_its_models_only_and_the_first_of_them_without_a_name(served: Served) -> None:
    body = {"input": "x"}
    assert served.ask("/v1/embeddings", body, key="all")[2]["model"] == ONE
    assert served.ask("/v1/embeddings", body, key="some")[2]["model"] == TWO
    assert served.ask("/v1/embeddings?model=labels", body, key="some")[2]["model"] == LABELS
    for path in ("/v1/embeddings?model=one", "/v1/embeddings?model=" + ONE):
        status, _, answer = served.ask(path, body, key="some")
        assert (status, answer["error"]["code"], answer["error"]["param"]) == (403, "insufficient_scope", "model")
    assert [card["id"] for card in served.ask("/v1/models", key="some")[2]["data"]] == [TWO, LABELS]
    assert served.ask("/info", key="some")[2]["model"] == TWO
    assert served.ask("/v1/embeddings", body, key="wrong")[0] == 403  # its line names a model that is not served


def test_a_key_whose_model_is_not_served_is_named_at_the_start(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    line = f"some {hashlib.sha256(b'k').hexdigest()} models=two,twoo"
    build_api(*served.models.services, keys=KeyRing(parse_keys(line, origin="test")))
    assert caplog.messages == [
        f"key some: models=twoo: not served here; served are {ONE}, {TWO}, {LABELS}, one, two, labels"
    ]


def test_audit_lines_and_metrics_name_the_model_that_answered(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    served.records.clear()
    with caplog.at_level(logging.INFO, logger="clinical_modernbert.audit"):
        served.ask("/embed?model=two", {"inputs": "chest pain"})
        served.ask("/embed?model=other", {"inputs": "chest pain"})
    lines = [json.loads(r.getMessage()) for r in caplog.records if r.name == "clinical_modernbert.audit"]
    assert [(line["model"], line["status"]) for line in lines] == [(TWO, 200), (None, 404)]
    seen = {(name, tags["model"]) for name, _, tags in served.records}
    assert {("cm_requests", TWO), ("cm_requests", ""), ("cm_failures", ""), ("cm_batch_tokens", TWO)} <= seen
    assert {model for _, model in seen} == {TWO, ""}


def test_the_batches_of_all_models_run_one_after_another_in_one_thread(served: Served) -> None:
    served.threads.clear()

    async def both() -> list[tuple[int, dict[str, str], bytes]]:
        bodies = [{"input": ["chest pain"] * 20, "model": name} for name in ("one", "two") * 4]
        return await asyncio.gather(*(answer_of(served.open, "POST", "/v1/embeddings", body) for body in bodies))

    answers = asyncio.run(both())
    assert [json.loads(content)["model"] for _, _, content in answers] == [ONE, TWO] * 4
    assert len(served.threads) >= 2 and len(set(served.threads)) == 1


def test_a_model_is_named_once(root: Path) -> None:
    with pytest.raises(ValidationError, match=r"more_models\[0\]: one is served already"):
        ServeRecipe.model_validate({"name": "all", "model": "one", "more_models": ["one"]})
    recipe = ServeRecipe.model_validate({"name": "all", "model": "one", "more_models": [ONE]})
    engine = load_engine(str(root), recipe)
    services = [EmbeddingService(engine), EmbeddingService(engine)]
    with pytest.raises(RecipeError, match=rf"more_models\[0\]: {ONE} is served already"):
        build_api(*services)
    for service in services:
        service.close()


def test_each_model_has_its_own_settings_and_the_limits_of_all() -> None:
    values = {"name": "all", "model": "one", "precision": "auto", "limits": {"max_texts": 3}}
    recipe = ServeRecipe.model_validate({**values, "more_models": ["two", {"model": "three", "normalize": False}]})
    one, two, three = recipe.pinned(["one-1", "two-2", "three-3"]).each_model()
    assert [part.model for part in (one, two, three)] == ["one-1", "two-2", "three-3"]
    assert [part.precision for part in (one, two, three)] == ["auto", "float32", "float32"]
    assert [part.normalize for part in (one, two, three)] == [True, True, False]
    assert {part.limits.max_texts for part in (one, two, three)} == {3}
