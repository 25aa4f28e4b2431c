"""A route is one value: the schema and the handler below and one ``Route`` are all that a new one needs."""

import asyncio
import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from clinical_modernbert.recipe import ServeRecipe
from clinical_modernbert.serving import api
from clinical_modernbert.serving.key_ring import KeyRing
from clinical_modernbert.serving.keys import SCOPES, parse_keys
from clinical_modernbert.serving.routes.route import Route
from clinical_modernbert.serving.schemas import Schema
from clinical_modernbert.serving.service import EmbeddingService
from clinical_modernbert.serving.tracing import no_trace
from fastapi import FastAPI

from tests.helpers.asgi import ask


class LengthRequest(Schema):
    """Body of ``POST /length``."""

    inputs: str
    """One text."""


async def length(_: EmbeddingService, request: LengthRequest) -> int:
    """Return the number of characters."""
    return len(request.inputs)


LENGTH = Route("/length", length, answer=int, scope="predict", examples={"one_text": {"inputs": "chest pain"}})


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> FastAPI:
    monkeypatch.setattr(api, "ROUTES", (*api.ROUTES, LENGTH))
    recipe = ServeRecipe.model_validate({"name": "tiny", "model": "tiny"})
    engine = SimpleNamespace(recipe=recipe, model_id="tiny-0123456789ab")
    service: Any = SimpleNamespace(engine=engine, record=lambda *_: None, trace=no_trace, check_threads=lambda: None)
    lines = [f"{scope} {hashlib.sha256(scope.encode()).hexdigest()} {scope}" for scope in sorted(SCOPES)]
    return api.build_api(service, keys=KeyRing(parse_keys("\n".join(lines), origin="test")))


def undescribed(routes: Sequence[Route], guide: str) -> set[str]:
    """Return the routes that the guide lacks, and those that it describes without need."""
    described = set(re.findall(r"`((?:GET|POST) /\S*)`", guide)) - {"GET /openapi.json"}
    return described ^ {f"{route.method} {route.path}" for route in routes}


PREFIXES = pytest.mark.parametrize("root_path", ["", "/two", "/embed"])
"""Ray Serve mounts each of several models below a prefix of its own."""


@PREFIXES
def test_a_new_route_answers_a_key_with_its_scope_and_no_other(app: FastAPI, root_path: str) -> None:
    async def body() -> None:
        sent = {"inputs": "chest"}
        assert await ask(app, "POST", "/length", sent, key="predict", root_path=root_path) == (200, 5)
        status, answer = await ask(app, "POST", "/length", sent, key="embed", root_path=root_path)
        assert (status, answer["error"]["code"]) == (403, "insufficient_scope")
        assert "the scope predict" in answer["error"]["message"]
        status, answer = await ask(app, "POST", "/length", sent, root_path=root_path)
        assert (status, answer["error"]["code"]) == (401, "invalid_api_key")
        assert await ask(app, "GET", "/health", root_path=root_path) == (200, {"status": "ok"})

    asyncio.run(body())


@PREFIXES
def test_a_new_route_refuses_unknown_fields_by_naming_its_known_ones(app: FastAPI, root_path: str) -> None:
    async def body() -> None:
        sent = {"inputs": "x", "Zebulon": 1}
        status, answer = await ask(app, "POST", "/length", sent, key="predict", root_path=root_path)
        assert (status, answer["error"]["code"]) == (422, "unknown_field")
        assert answer["error"]["message"].endswith("known fields: inputs")
        status, answer = await ask(app, "POST", "/length", {}, key="predict", root_path=root_path)
        assert (status, answer["error"]["code"], answer["error"]["param"]) == (422, "missing_field", "inputs")

    asyncio.run(body())


def test_every_key_may_read_which_model_is_served_and_learn_that_a_path_is_unknown(app: FastAPI) -> None:
    async def body() -> None:
        for key in sorted(SCOPES):
            for path in ("/info", "/v1/models"):
                # The stub has no model to describe: 500 comes from the route, which the key has reached.
                assert (await ask(app, "GET", path, key=key))[0] == 500, (key, path)
            assert (await ask(app, "POST", "/absent", {}, key=key))[0] == 404
        assert (await ask(app, "GET", "/info"))[0] == 401

    asyncio.run(body())


def test_a_slash_at_the_end_is_another_path_and_not_a_redirect(app: FastAPI) -> None:
    """A redirect would repeat the Host header of the request."""
    assert asyncio.run(ask(app, "POST", "/length/", {"inputs": "x"}, key="predict"))[0] == 404


def test_a_new_route_is_described_with_its_example_and_its_refusals(app: FastAPI) -> None:
    operation = app.openapi()["paths"]["/length"]["post"]
    assert operation["description"] == "Return the number of characters."
    content = operation["requestBody"]["content"]["application/json"]
    assert content["examples"]["one_text"] == {"summary": "one text", "value": {"inputs": "chest pain"}}
    assert {"401", "403", "422", "429"} <= set(operation["responses"])
    assert "/ping" not in app.openapi()["paths"]


def test_the_guide_describes_every_route_and_scope_and_no_other(repository: Path) -> None:
    guide = (repository / "docs" / "serving.md").read_text(encoding="utf-8")
    assert undescribed(api.ROUTES, guide) == set()
    assert undescribed((*api.ROUTES, LENGTH), guide) == {"POST /length"}
    assert {route.scope for route in api.ROUTES} - {None, "any"} == SCOPES
    assert {scope for scope in SCOPES if f"`{scope}`" not in guide} == set()


def test_every_example_is_a_valid_body_of_its_route() -> None:
    for route in api.ROUTES:
        assert bool(route.examples) == (route.method == "POST"), route.path
        for example in route.examples.values():
            assert route.body is not None
            model = {"model": "tiny"} if "model" in route.fields else {}
            route.body.model_validate_json(json.dumps({**example, **model}))
