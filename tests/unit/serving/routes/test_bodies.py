"""Bodies as other servers' clients send them: null for absent, fields of other servers, no model."""

import asyncio
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from clinical_modernbert.serving.api import ROUTES
from clinical_modernbert.serving.schemas import IGNORED_FIELDS, Body
from fastapi import FastAPI

from tests.helpers.asgi import answer_of, ask
from tests.helpers.served_app import open_app, publish

BODIES: dict[str, dict[str, Any]] = {
    "/v1/embeddings": {"input": "x", "model": "tiny"},
    "/embed": {"inputs": "x"},
    "/embed_all": {"inputs": "x"},
    "/embed_sparse": {"inputs": "x"},
    "/similarity": {"inputs": {"source_sentence": "x", "sentences": ["y"]}, "parameters": {}},
    "/rerank": {"query": "x", "texts": ["y"]},
    "/v1/rerank": {"query": "x", "documents": ["y"]},
    "/tokenize": {"inputs": "x"},
    "/fill-mask": {"inputs": "x [MASK]", "parameters": {}},
}
OF_HEADS = {"/predict": {"inputs": "x", "parameters": {}}, "/token-classify": {"inputs": "x", "parameters": {}}}
ALIASES = {"/": BODIES["/embed"], "/embeddings": BODIES["/v1/embeddings"], "/v2/rerank": BODIES["/v1/rerank"]}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastAPI]:
    app, service = open_app(publish(tmp_path_factory.mktemp("model")))
    yield app
    service.close()


def with_nulls(schema: type[Body], body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body with null in every optional field that it lacks."""
    nulls = {name: None for name, field in schema.model_fields.items() if not field.is_required()}
    return {**nulls, **body}


@pytest.mark.parametrize("path", sorted(BODIES))
def test_null_is_absent_in_every_optional_field(app: FastAPI, path: str) -> None:
    (schema,) = [route.body for route in ROUTES if route.path == path]
    assert schema is not None
    body = with_nulls(schema, BODIES[path])
    if "parameters" in body:
        parameters = schema.model_fields["parameters"].annotation
        assert isinstance(parameters, type) and issubclass(parameters, Body)
        body["parameters"] = with_nulls(parameters, {})
    expected = asyncio.run(ask(app, "POST", path, BODIES[path]))
    assert expected[0] == 200
    assert asyncio.run(ask(app, "POST", path, body)) == expected
    if "parameters" in body:
        assert asyncio.run(ask(app, "POST", path, {**body, "parameters": None})) == expected


def test_every_body_of_a_request_takes_null_and_says_so() -> None:
    for route in ROUTES:
        if route.body is None:
            continue
        body = with_nulls(route.body, {**BODIES, **OF_HEADS, **ALIASES}[route.path])
        route.body.model_validate_json(json.dumps(body))
        schema = route.body.model_json_schema()
        for name, described in schema["properties"].items():
            null = {"type": "null"} in described.get("anyOf", [described]) or described.get("type") == "null"
            assert null == (name not in schema.get("required", ())), (route.path, name)


@pytest.mark.parametrize("path", sorted(BODIES))
def test_fields_of_other_servers_are_ignored_and_named_in_a_header(app: FastAPI, path: str) -> None:
    expected, headers, _ = asyncio.run(answer_of(app, "POST", path, BODIES[path]))
    assert (expected, "x-ignored-fields" in headers) == (200, False)
    sent = {**BODIES[path], **dict.fromkeys(IGNORED_FIELDS, "Zebulon")}
    status, headers, _ = asyncio.run(answer_of(app, "POST", path, sent))
    assert status == 200
    assert headers["x-ignored-fields"] == ", ".join(sorted(IGNORED_FIELDS))
    for misspelt in ("dimension", "truncates", "Zebulon", "inputtype"):
        status, _, content = asyncio.run(answer_of(app, "POST", path, {**BODIES[path], misspelt: 1}))
        assert (status, json.loads(content)["error"]["code"]) == (422, "unknown_field")


def test_a_required_field_that_is_null_is_still_refused(app: FastAPI) -> None:
    status, answer = asyncio.run(ask(app, "POST", "/embed", {"inputs": None}))
    assert (status, answer["error"]["code"], answer["error"]["param"]) == (422, "invalid_inputs", "inputs")


@pytest.mark.parametrize(
    ("path", "body", "param", "message"),
    [
        ("/fill-mask", {"inputs": "[MASK]", "parameters": {"topk": 3}}, "parameters", "known fields: top_k, targets"),
        ("/fill-mask", {"inputs": "[MASK]", "parameters": {"top_k": 3000}}, "parameters.top_k", "equal to 1000"),
        ("/fill-mask", {"inputs": "[MASK]", "parameters": {"targets": ["a", 1]}}, "parameters.targets[1]", "string"),
        ("/fill-mask", {"inputs": "[MASK]", "parameters": 3}, "parameters", "an object with the fields top_k, targets"),
        ("/fill-mask", {"inputs": [[1, 2]]}, "inputs", "must be a string or a list of strings"),
        ("/tokenize", {"inputs": [1, 2]}, "inputs", "must be a string or a list of strings"),
        ("/predict", {"inputs": ["a", "b"]}, "inputs", "a list of lists of one string each"),
        ("/embed", {"inputs": {"text": "a"}}, "inputs", "or a list of lists of token ids"),
        ("/similarity", {"inputs": {"source_sentence": "a"}}, "inputs.sentences", "inputs.sentences is required"),
        ("/similarity", {"inputs": "a"}, "inputs", "an object with the fields source_sentence, sentences"),
        ("/rerank", {"query": "a", "texts": ["b", 3]}, "texts[1]", "string"),
        ("/rerank", {"query": "a", "texts": "b"}, "texts", "list"),
        (
            "/rerank",
            {"query": "a", "texts": ["b"], "top": 1},
            None,
            "the body has an unknown field; known fields: query,",
        ),
    ],
)
def test_a_refusal_names_the_field_and_says_what_this_route_takes(
    app: FastAPI, path: str, body: Any, param: str | None, message: str
) -> None:
    status, answer = asyncio.run(ask(app, "POST", path, body))
    assert (status, answer["error"]["param"]) == (422, param)
    assert message in answer["error"]["message"]
    assert answer["error"]["message"].startswith(param or "the body")


@pytest.mark.parametrize(
    "content",
    [
        '{"inputs": "Zebulon \u00e9"}'.encode("latin-1"),
        b'{"inputs": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        '{"inputs": "Zebulon"}'.encode("utf-16"),
        '{"options": "\u2200", "inputs": ['.encode("utf-16-le") + "1,".encode("utf-16-le") * 300_000,
    ],
    ids=["latin-1", "deep", "utf-16", "utf-16 with more items than are allowed"],
)
def test_a_body_that_is_not_json_in_utf_8_is_refused_as_such(app: FastAPI, content: bytes) -> None:
    status, _, answer = asyncio.run(answer_of(app, "POST", "/embed", content))
    assert (status, json.loads(answer)["error"]["code"]) == (400, "invalid_json")
    assert b"UTF-8" in answer and b"Zebulon" not in answer


@pytest.mark.parametrize("named", [{}, {"model": None}, {"model": "tiny"}])
def test_the_model_may_be_left_out(app: FastAPI, named: dict[str, Any]) -> None:
    status, answer = asyncio.run(ask(app, "POST", "/v1/embeddings", {"input": "x", **named}))
    assert (status, answer["model"]) == (200, "tiny-0123456789ab")
    assert asyncio.run(ask(app, "POST", "/v1/embeddings", {"input": "x", "model": "other"}))[0] == 404


def test_the_guide_lists_the_ignored_fields(repository: Path) -> None:
    guide = (repository / "docs" / "serving.md").read_text(encoding="utf-8")
    listed = guide.partition("Fields that other servers define (")[2].partition(")")[0]
    assert set(re.findall(r"`(\w+)`", listed)) == IGNORED_FIELDS
