"""An alias divides keys among models by weight: a key always gets the same model, and the answer says which."""

import asyncio
import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from clinical_modernbert.errors import RecipeError
from clinical_modernbert.recipe import ServeRecipe
from clinical_modernbert.serving.api import build_api
from clinical_modernbert.serving.engine import load_engine
from clinical_modernbert.serving.key_ring import KeyRing
from clinical_modernbert.serving.keys import parse_keys
from clinical_modernbert.serving.models import ServedModels, share_of
from clinical_modernbert.serving.service import EmbeddingService
from clinical_modernbert.serving.tracing import no_trace
from fastapi import FastAPI
from pydantic import ValidationError

from tests.helpers.asgi import answer_of
from tests.helpers.served_models import publish_folder
from tests.helpers.tiny import save_tiny_model

ONE, TWO = "one-0123456789ab", "two-0123456789ab"
WEIGHTS = {ONE: 0.9, TWO: 0.1}
KEYS = [f"app-{number}" for number in range(40)]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedModels]:
    root, folder = tmp_path_factory.mktemp("store"), tmp_path_factory.mktemp("exports")
    for name in ("one", "two"):
        save_tiny_model(folder / name / "model")
        publish_folder(root, folder / name, name=name)
    recipe = ServeRecipe.model_validate(
        {
            "name": "both",
            "model": "one",
            "more_models": ["two"],
            "aliases": {"encoder": {"one": 0.9, "two": 0.1}, "stable": {"two": 1}},
        }
    )
    recipe = recipe.pinned([ONE, TWO])
    engines = [load_engine(str(root), one) for one in recipe.each_model()]
    models = ServedModels.of_engines(engines, record=lambda *_: None, trace=no_trace)
    yield models
    models.close()


@pytest.fixture(scope="module")
def app(models: ServedModels) -> FastAPI:
    named = {"limited": "encoder", "other": "two", "several": "absent,two,one", "elsewhere": "absent"}
    lines = [f"{name} {hashlib.sha256(f'k-{name}'.encode()).hexdigest()}" for name in (*KEYS, *named)]
    lines[-len(named) :] = [
        f"{line} models={allowed}" for line, allowed in zip(lines[-len(named) :], named.values(), strict=True)
    ]
    return build_api(*models.services, keys=KeyRing(parse_keys("\n".join(lines), origin="test")))


def ask(app: FastAPI, path: str, body: Any = None, *, key: str = KEYS[0]) -> tuple[int, dict[str, str], Any]:
    path, _, query = path.partition("?")
    method, headers = "GET" if body is None else "POST", {"authorization": f"Bearer k-{key}"}
    status, received, content = asyncio.run(answer_of(app, method, path, body, headers=headers, query=query))
    return status, received, json.loads(content)


def test_keys_are_divided_by_the_weights() -> None:
    keys = [f"app-{number}" for number in range(10_000)]
    counts = Counter(share_of(key, WEIGHTS, alias="encoder") for key in keys)
    assert counts == {ONE: 8998, TWO: 1002}  # 9,000 and 1,000, give or take 30
    of_three = Counter(share_of(key, {"a": 1, "b": 2, "c": 5}, alias="encoder") for key in keys)
    assert of_three["a"] + of_three["b"] + of_three["c"] == 10_000
    assert all(abs(of_three[name] - 1250 * weight) < 150 for name, weight in (("a", 1), ("b", 2), ("c", 5)))


def test_a_changed_weight_moves_keys_to_its_own_model_only() -> None:
    keys = [f"app-{number}" for number in range(2000)]
    before = {key: share_of(key, WEIGHTS, alias="encoder") for key in keys}
    raised = {key: share_of(key, {ONE: 0.9, TWO: 0.4}, alias="encoder") for key in keys}
    moved = [key for key in keys if before[key] != raised[key]]
    assert len(moved) > 200 and {raised[key] for key in moved} == {TWO}
    third = {key: share_of(key, {**WEIGHTS, "three": 0.5}, alias="encoder") for key in keys}
    assert {third[key] for key in keys if before[key] != third[key]} == {"three"}
    # Another alias divides the same keys in another way.
    assert any(before[key] != share_of(key, WEIGHTS, alias="other") for key in keys)


def test_a_key_gets_its_model_on_every_route_and_every_time(app: FastAPI, caplog: pytest.LogCaptureFixture) -> None:
    found = Counter[str]()
    with caplog.at_level(logging.INFO, logger="clinical_modernbert.audit"):
        for key in KEYS:
            status, _, answer = ask(app, "/v1/embeddings", {"input": "x", "model": "encoder"}, key=key)
            seen = {answer["model"]}
            seen.add(
                ask(app, "/v1/rerank", {"query": "x", "documents": ["y"], "model": "encoder"}, key=key)[2]["model"]
            )
            seen.add(ask(app, "/embed?model=encoder", {"inputs": "x"}, key=key)[1]["x-model"])
            seen.add(ask(app, "/v1/models/encoder", key=key)[2]["id"])
            assert (status, seen) == (200, {share_of(key, WEIGHTS, alias="encoder")})
            found[answer["model"]] += 1
    assert found == {ONE: 36, TWO: 4}
    lines = [json.loads(r.getMessage()) for r in caplog.records if r.name == "clinical_modernbert.audit"]
    assert Counter(line["model"] for line in lines) == {ONE: 4 * 36, TWO: 4 * 4}


def test_aliases_are_listed_and_an_alias_of_one_model_is_another_name(app: FastAPI) -> None:
    assert [card["id"] for card in ask(app, "/v1/models")[2]["data"]] == [ONE, TWO, "encoder", "stable"]
    assert ask(app, "/info?model=stable")[2]["model"] == TWO
    enum = app.openapi()["paths"]["/embed"]["post"]["parameters"][0]["schema"]["enum"]
    assert enum == [ONE, TWO, "encoder", "stable", "one", "two", None]


def test_a_key_of_an_alias_may_name_its_own_model_of_it_and_no_other(app: FastAPI) -> None:
    mine = share_of("limited", WEIGHTS, alias="encoder")
    (other,) = {ONE, TWO} - {mine}
    for name, status in (("encoder", 200), (mine, 200), (other, 403)):
        assert ask(app, "/embed?model=" + name, {"inputs": "x"}, key="limited")[0] == status
    assert ask(app, "/embed", {"inputs": "x"}, key="limited")[1]["x-model"] == mine
    assert [card["id"] for card in ask(app, "/v1/models", key="limited")[2]["data"]] == [mine, "encoder"]
    assert [card["id"] for card in ask(app, "/v1/models", key="other")[2]["data"]] == [TWO]


def test_the_first_model_of_a_key_that_is_served_answers_requests_that_name_none(app: FastAPI) -> None:
    """One list of keys may be for several endpoints."""
    status, headers, _ = ask(app, "/embed", {"inputs": "x"}, key="several")
    assert (status, headers["x-model"]) == (200, TWO)
    assert ask(app, "/info", key="several")[2]["model"] == TWO
    assert ask(app, "/embed?model=one", {"inputs": "x"}, key="several")[1]["x-model"] == ONE
    status, _, answer = ask(app, "/embed", {"inputs": "x"}, key="elsewhere")
    assert (status, answer["error"]["code"]) == (403, "insufficient_scope")


def test_an_alias_of_several_models_needs_keys(models: ServedModels) -> None:
    with pytest.raises(RecipeError, match="aliases: an alias of several models needs API keys"):
        build_api(*models.services)


@pytest.mark.parametrize(
    ("aliases", "message"),
    [
        ({"encoder": {"three": 1}}, "aliases.encoder: three must be one of the served models: one, two"),
        ({"encoder": {"one": 0}}, "greater than 0"),
        ({"encoder": {}}, "at least 1 item"),
        ({"an encoder": {"one": 1}}, "should match pattern"),
    ],
)
def test_an_alias_that_cannot_work_is_refused(aliases: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ServeRecipe.model_validate({"name": "both", "model": "one", "more_models": ["two"], "aliases": aliases})


def test_an_alias_may_not_hide_the_id_of_a_model(models: ServedModels) -> None:
    first, second = models.services
    recipe = first.engine.recipe.model_copy(update={"aliases": {TWO: {ONE: 1.0}}})
    service = EmbeddingService(replace(first.engine, recipe=recipe))
    with pytest.raises(RecipeError, match=f"aliases.{TWO}: this is the id of a served model"):
        ServedModels([service, second])
    service.close()
