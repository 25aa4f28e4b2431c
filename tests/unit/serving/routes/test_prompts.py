"""Prompts of the model's folder precede texts; output types are smaller forms of the same vectors."""

import asyncio
import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clinical_modernbert.errors import ModelError
from clinical_modernbert.recipe import ServeRecipe
from clinical_modernbert.serving.api import build_api
from clinical_modernbert.serving.engine import load_engine, read_prompts
from clinical_modernbert.serving.service import EmbeddingService
from fastapi import FastAPI

from tests.helpers.asgi import ask
from tests.helpers.served_models import publish_folder, publish_model

PROMPTS = {"prompts": {"query": "search: ", "document": ""}, "default_prompt_name": None}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastAPI]:
    folder = tmp_path_factory.mktemp("prompts")
    publish_model(folder / "plain", folder / "export")
    (folder / "export/model/config_sentence_transformers.json").write_text(json.dumps(PROMPTS))
    publish_folder(folder / "store", folder / "export")
    recipe = ServeRecipe.model_validate({"name": "tiny", "model": "tiny"})
    service = EmbeddingService(load_engine(str(folder / "store"), recipe))
    yield build_api(service)
    service.close()


def post(app: FastAPI, path: str, body: Any) -> tuple[int, Any]:
    return asyncio.run(ask(app, "POST", path, body))


def vector(app: FastAPI, **body: Any) -> Any:
    status, answer = post(app, "/v1/embeddings", body)
    assert status == 200, answer
    return answer["data"][0]["embedding"]


def test_a_prompt_precedes_each_text_on_every_route(app: FastAPI) -> None:
    assert vector(app, input="chest pain", prompt_name="query") == vector(app, input="search: chest pain")
    assert vector(app, input="chest pain", prompt_name="document") == vector(app, input="chest pain")
    found = post(app, "/embed", {"inputs": ["a", "b"], "prompt_name": "query"})
    assert found == post(app, "/embed", {"inputs": ["search: a", "search: b"]})
    found = post(app, "/tokenize", {"inputs": "a", "prompt_name": "query"})
    assert found == post(app, "/tokenize", {"inputs": "search: a"})
    pair = {"source_sentence": "a", "sentences": ["b"]}
    found = post(app, "/similarity", {"inputs": pair, "parameters": {"prompt_name": "query"}})
    with_prompts = {"source_sentence": "search: a", "sentences": ["search: b"]}
    assert found == post(app, "/similarity", {"inputs": with_prompts})
    assert asyncio.run(ask(app, "GET", "/info"))[1]["prompts"] == ["document", "query"]


def test_unknown_prompts_and_prompts_before_ids_and_empty_texts_are_refused(app: FastAPI) -> None:
    status, answer = post(app, "/embed", {"inputs": "a", "prompt_name": "Zebulon"})
    assert (status, answer["error"]["code"]) == (422, "invalid_prompt_name")
    assert answer["error"]["message"] == "prompt_name must be one of document, query"
    ids = [token["id"] for token in post(app, "/tokenize", {"inputs": "a"})[1][0]]
    assert post(app, "/embed", {"inputs": [ids]})[0] == 200
    assert post(app, "/embed", {"inputs": [ids], "prompt_name": "query"})[1]["error"]["code"] == "prompt_before_ids"
    assert post(app, "/embed", {"inputs": "", "prompt_name": "query"})[1]["error"]["code"] == "empty_input"


def test_a_default_prompt_applies_and_a_file_without_sense_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config_sentence_transformers.json"
    assert read_prompts(tmp_path).default == ""
    path.write_text(json.dumps({**PROMPTS, "default_prompt_name": "query"}))
    assert read_prompts(tmp_path).default == "search: "
    for wrong in ("[1]", "{", '{"prompts": {}, "default_prompt_name": "none"}', '{"prompts": [1]}'):
        path.write_text(wrong)
        with pytest.raises(ModelError, match="prompts must be texts by name"):
            read_prompts(tmp_path)


@pytest.mark.parametrize(("name", "dtype"), [("float32", "<f4"), ("float16", "<f2"), ("int8", "i1"), ("binary", "u1")])
def test_smaller_types_keep_the_direction(app: FastAPI, name: str, dtype: str) -> None:
    exact = np.array(vector(app, input="chest pain"))
    content = vector(app, input="chest pain", output_dtype=name, encoding_format="base64")
    found = np.frombuffer(base64.b64decode(content), dtype=dtype)
    assert found.tolist() == pytest.approx(vector(app, input="chest pain", output_dtype=name))
    if name == "binary":
        assert np.unpackbits(found).tolist() == (exact > 0).astype(int).tolist()
    else:
        wide = found.astype(np.float64)
        assert wide @ exact / np.linalg.norm(wide) > 0.999
    if name == "int8":
        assert np.abs(found.astype(int)).max() == 127
