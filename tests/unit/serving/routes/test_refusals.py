"""Refusals that a client can act on: all empty texts, the setting of a known client, unknown paths and models."""

import asyncio
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI

from tests.helpers.asgi import ask
from tests.helpers.served_app import open_app, publish


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastAPI]:
    app, service = open_app(publish(tmp_path_factory.mktemp("model")))
    yield app
    service.close()


@pytest.mark.parametrize(
    ("path", "field"), [("/v1/embeddings", "input"), ("/embed", "inputs"), ("/tokenize", "inputs")]
)
def test_all_empty_texts_are_named(app: FastAPI, path: str, field: str) -> None:
    status, answer = asyncio.run(ask(app, "POST", path, {field: ["x", "", "y", ""]}))
    assert (status, answer["error"]["code"], answer["error"]["param"]) == (400, "empty_input", f"{field}[1]")
    assert answer["error"]["message"].startswith(f"{field}[1], {field}[3] are empty")
    assert asyncio.run(ask(app, "POST", path, {field: ""}))[1]["error"]["message"].startswith(f"{field} is empty")


def test_the_vector_of_an_empty_text_is_null_where_the_request_says_so(app: FastAPI) -> None:
    alone = asyncio.run(ask(app, "POST", "/v1/embeddings", {"input": ["x", "y"]}))[1]
    body = {"input": ["", "x", " \n", "y", ""], "empty": "null"}
    status, answer = asyncio.run(ask(app, "POST", "/embeddings", body))
    assert status == 200 and [item["index"] for item in answer["data"]] == [0, 1, 2, 3, 4]
    found = [item["embedding"] for item in answer["data"]]
    assert [found[0], found[2], found[4]] == [None, None, None] and all("embedding" in item for item in answer["data"])
    np.testing.assert_allclose([found[1], found[3]], [item["embedding"] for item in alone["data"]], atol=1e-6)
    assert answer["usage"] == alone["usage"]
    status, answer = asyncio.run(ask(app, "POST", "/v1/embeddings", {"input": "", "empty": "null"}))
    assert (status, answer["data"][0]["embedding"], answer["usage"]["total_tokens"]) == (200, None, 0)
    # An index in a refusal is the text's in the request.
    body = {"input": ["", "x", "y" * 300_000], "empty": "null"}
    assert asyncio.run(ask(app, "POST", "/v1/embeddings", body))[1]["error"]["param"] == "input[2]"
    body = {"input": [""] * 3000, "empty": "null"}
    assert asyncio.run(ask(app, "POST", "/v1/embeddings", body))[1]["error"]["code"] == "too_many_texts"


@pytest.mark.parametrize("ids", [[5, 6, 7], [[9906, 11, 99_999]]])
def test_ids_of_another_tokenizer_name_the_setting_of_langchain(app: FastAPI, ids: Any) -> None:
    status, answer = asyncio.run(ask(app, "POST", "/v1/embeddings", {"input": ids}))
    assert (status, answer["error"]["code"]) == (422, "invalid_token_ids")
    assert "check_embedding_ctx_length=False" in answer["error"]["message"]


def test_a_model_is_found_by_its_id_and_its_name(app: FastAPI) -> None:
    for name in ("tiny", "tiny-0123456789ab"):
        status, answer = asyncio.run(ask(app, "GET", f"/v1/models/{name}"))
        assert (status, answer["id"], answer["object"]) == (200, "tiny-0123456789ab", "model")
    status, answer = asyncio.run(ask(app, "GET", "/v1/models/Zebulon"))
    assert (status, answer["error"]["code"]) == (404, "model_not_found")
    assert "Zebulon" not in str(answer)


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/absent", (404, "not_found")),
        ("GET", "/v1/models/a/b", (404, "not_found")),
        ("GET", "/embed", (405, "method_not_allowed")),
    ],
)
def test_an_unknown_path_or_method_has_its_own_code(
    app: FastAPI, method: str, path: str, expected: tuple[int, str]
) -> None:
    status, answer = asyncio.run(ask(app, method, path))
    assert (status, answer["error"]["code"]) == expected
