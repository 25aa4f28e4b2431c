"""The guide's snippets for clients, run against the app in-process."""

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx2
import numpy as np
import pytest
from clinical_modernbert.serving.service import EmbeddingService
from fastapi import FastAPI
from openai import AsyncOpenAI

from tests.helpers.asgi import answer_of
from tests.helpers.served_app import open_app, publish


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FastAPI, EmbeddingService]]:
    app, service = open_app(publish(tmp_path_factory.mktemp("model")))
    yield app, service
    service.close()


def snippet(repository: Path, heading: str) -> str:
    """Return the first code block after a bold heading of the part "Clients"."""
    guide = (repository / "docs" / "serving.md").read_text(encoding="utf-8")
    after = guide.partition("\n## Clients\n")[2].partition(f"\n{heading}:\n")[2]
    (_, code) = re.split(r"```\w+\n", after, maxsplit=1)
    return code.partition("```")[0]


def test_the_snippet_for_openai_gives_the_offline_vectors(
    served: tuple[FastAPI, EmbeddingService], repository: Path
) -> None:
    app, service = served
    code = snippet(repository, "openai")
    names = dict(re.findall(r"(\w+)=(\"[^\"]*\")", code))
    (texts,) = re.findall(r"input=(\[[^\]]*\])", code)

    async def body() -> list[list[float]]:
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport) as http:
            client = AsyncOpenAI(
                base_url=json.loads(names["base_url"]), api_key=json.loads(names["api_key"]), http_client=http
            )
            answer = await client.embeddings.create(model="tiny", input=json.loads(texts))
            assert (await client.models.retrieve("tiny")).id == "tiny-0123456789ab"
        return [item.embedding for item in answer.data]

    encoder = service.engine.encoder
    expected = encoder.embed(encoder.tokenize(json.loads(texts)), pooling="cls", normalize=True)
    np.testing.assert_allclose(asyncio.run(body()), expected, atol=1e-5)


def test_the_snippet_for_curl_is_answered(served: tuple[FastAPI, EmbeddingService], repository: Path) -> None:
    code = snippet(repository, "curl")
    (path,) = re.findall(r"http://127.0.0.1:8000(/\S+)", code)
    (body,) = re.findall(r"-d '([^']+)'", code)
    status, _, content = asyncio.run(answer_of(served[0], "POST", path, json.loads(body)))
    assert (status, len(json.loads(content))) == (200, 2)


def test_the_snippet_for_langchain_sets_what_a_refusal_names(repository: Path) -> None:
    code = snippet(repository, "LangChain")
    assert "check_embedding_ctx_length=False" in code
    assert "chunk_size=" not in code  # LangChain's default is below that of max_texts
