"""The HTTP schema and the refusals: OpenAI's shapes, strict types, and no word of the request in any of them."""

import base64
from typing import Any

import numpy as np
import pytest
from clinical_modernbert.serving import problems
from clinical_modernbert.serving.routes.openai import EmbeddingsRequest, encode_vector
from pydantic import ValidationError


@pytest.mark.parametrize("given", ["text", ["a", "b"], [1, 2, 3], [[1, 2], [3]], [], ""])
def test_every_form_of_input_is_taken_as_it_is(given: Any) -> None:
    assert EmbeddingsRequest(input=given, model="m").input == given


@pytest.mark.parametrize("given", [None, 1, {"a": 1}, ["a", 1], [1, "a"], [1.5], [True], [["a"]], [[1], "a"], [[[1]]]])
def test_other_inputs_are_refused(given: Any) -> None:
    with pytest.raises(ValidationError):
        EmbeddingsRequest(input=given, model="m")


@pytest.mark.parametrize(
    "extra",
    [
        {"dimension": 8},
        {"inputs_type": "x"},
        {"encoding_format": "hex"},
        {"dimensions": 0},
        {"dimensions": "8"},
        {"truncate": "yes"},
    ],
)
def test_misspelt_fields_and_wrong_types_are_refused(extra: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        EmbeddingsRequest.model_validate({"input": "text", "model": "m", **extra})


def test_defaults_are_those_of_openai_and_nothing_is_cut_unasked() -> None:
    request = EmbeddingsRequest(input="text", model="m")
    assert (request.encoding_format, request.dimensions, request.truncate) == ("float", None, False)


def test_base64_is_little_endian_float32() -> None:
    vector = np.array([1.5, -2.25, 1e-8], dtype=np.float32)
    encoded = encode_vector(vector, "base64")
    assert isinstance(encoded, str)
    assert base64.b64decode(encoded) == b"\x00\x00\xc0\x3f\x00\x00\x10\xc0" + np.float32(1e-8).tobytes()
    assert encode_vector(vector, "float") == [1.5, -2.25, float(np.float32(1e-8))]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"input": {"note": "Zebulon"}}, 422, "invalid_input"),
        ({"input": "x", "Zebulon": 1}, 422, "unknown_field"),
        ({"input": "x", "encoding_format": "Zebulon"}, 422, "invalid_encoding_format"),
        ({"input": "x", "dimensions": "Zebulon"}, 422, "invalid_dimensions"),
    ],
)
def test_a_refusal_names_the_field_and_repeats_nothing(body: dict[str, Any], status: int, code: str) -> None:
    with pytest.raises(ValidationError) as invalid:
        EmbeddingsRequest.model_validate({"model": "m", **body})
    errors = [{**error, "loc": ("body", *error["loc"])} for error in invalid.value.errors()]
    problem = problems.invalid_body(errors, EmbeddingsRequest)
    assert (problem.status, problem.body.error.code) == (status, code)
    assert "Zebulon" not in problem.body.model_dump_json()
    assert "Zebulon" not in str(problem)


@pytest.mark.parametrize(
    ("status", "kind"), [(404, "invalid_request_error"), (429, "rate_limit_error"), (500, "server_error")]
)
def test_the_type_follows_the_status(status: int, kind: str) -> None:
    assert problems.ProblemError(status, "code", "message").body.error.type == kind


def test_a_full_queue_says_when_to_come_back() -> None:
    problem = problems.queue_full(10, 7)
    assert (problem.status, dict(problem.headers)) == (429, {"Retry-After": "7"})
    assert "max_queued_texts=10" in problem.body.error.message
    slow = problems.queue_too_slow(120.0, 30)
    assert (slow.status, slow.body.error.code, dict(slow.headers)) == (429, "queue_full", {"Retry-After": "30"})
    assert "request_timeout_s=120;" in slow.body.error.message
