"""The OpenAPI page: complete, with examples that work, and no request that it allows or forbids ends in a 5xx."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clinical_modernbert.serving.problems import ProblemError

from benchmarks.kits.fuzz_api import send_requests
from tests.helpers.bare_server import KEYS, Server, key_lines
from tests.helpers.served_models import publish_folder
from tests.helpers.tiny import save_tiny_classifier, save_tiny_model

NUM_EXAMPLES = 15
HEADS = {"masked-lm": {}, "sequence": {"labels": ("a", "b", "c")}, "token": {"labels": ("O", "B-X", "I-X")}}
ROUTE_OF_HEAD = {"masked-lm": "/fill-mask", "sequence": "/predict", "token": "/token-classify"}
HEAD_OF_ROUTE = {"/embed_sparse": "masked-lm", **{route: head for head, route in ROUTE_OF_HEAD.items()}}


@pytest.fixture(scope="module", params=sorted(HEADS))
def head(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def server(head: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder, root = tmp_path_factory.mktemp("export"), tmp_path_factory.mktemp("store")
    if head == "masked-lm":
        save_tiny_model(folder / "model")
    else:
        save_tiny_classifier(folder / "model", head=head, **HEADS[head])
    publish_folder(root, folder)
    running = Server(root, key_lines())
    yield running
    running.close()


@pytest.fixture(scope="module")
def page(server: Server) -> dict[str, Any]:
    return dict(server.get("/openapi.json", key=None)[1])


def test_no_request_ends_in_a_5xx(server: Server, head: str, page: dict[str, Any]) -> None:
    """The short form of the endpoint's half of ``make drill ROW=fuzz``."""
    seen = send_requests(
        server.url,
        page,
        seed=0,
        max_examples=NUM_EXAMPLES,
        key=KEYS["full"],
        is_wanted=lambda path: head == "masked-lm" or path == ROUTE_OF_HEAD[head],
    )
    assert {200, 422} <= seen.keys()  # both kinds, or the test shows nothing


def test_every_body_has_an_example_and_every_example_is_answered(
    server: Server, head: str, page: dict[str, Any]
) -> None:
    asked = []
    for path, operations in page["paths"].items():
        if "post" not in operations:
            continue
        content = operations["post"]["requestBody"]["content"]["application/json"]
        examples = content.get("examples")
        assert examples, path
        if HEAD_OF_ROUTE.get(path, head) != head:
            continue
        for name, example in examples.items():
            status, answer = server.post(path, example["value"])
            assert status == 200, (path, name, answer)
            asked.append(path)
    assert {"/v1/embeddings", "/embed", "/tokenize", "/similarity", ROUTE_OF_HEAD[head]} <= set(asked)


def test_every_route_says_what_it_does_and_how_it_refuses(page: dict[str, Any]) -> None:
    for path, operations in page["paths"].items():
        for operation in operations.values():
            assert operation.get("description"), path
            assert {"401", "403", "413", "422", "429", "504"} <= set(operation["responses"]), path


def test_every_code_of_a_refusal_is_in_the_guide(repository: Path) -> None:
    guide = (repository / "docs" / "serving.md").read_text(encoding="utf-8")
    source = (repository / "platform/clinical_modernbert/serving/problems.py").read_text(encoding="utf-8")
    codes = set(re.findall(r'ProblemError\(\s*\d{3}, "([a-z_]+)"', source))
    assert len(codes) > 15
    assert ProblemError(404, "no_such_head", "").body.error.code in codes
    assert {
        code
        for code in codes
        if f"`{code}`" not in guide and not code.startswith(("missing_", "unknown_", "invalid_body"))
    } == set()
