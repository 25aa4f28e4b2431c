"""Routes of text-embeddings-inference (TEI): ``/embed``, ``/embed_all``, ``/similarity`` and ``/tokenize``.

Hugging Face's inference client calls them too. The answers are bare lists without room for a mark on a text that was cut, so
the header ``x-truncated`` counts such texts.
"""

import json
from collections.abc import Callable
from typing import Annotated

import numpy as np
from fastapi import Response
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from clinical_modernbert.serving import problems
from clinical_modernbert.serving.forward import EncodeTask
from clinical_modernbert.serving.routes.route import Examples
from clinical_modernbert.serving.schemas import EmbeddingInput, Schema, Texts, TruncationDirection
from clinical_modernbert.serving.service import EmbeddingService, Outputs

_NOTES = ["chest pain radiating to the left arm", "no acute distress"]
_SYNONYMS = {"source_sentence": "short of breath", "sentences": ["dyspnoea", "ankle sprain"]}
EMBED_EXAMPLES: Examples = {
    "one_text": {"inputs": _NOTES[0]},
    "a_list_cut_where_too_long": {"inputs": _NOTES, "truncate": True},
}
EMBED_ALL_EXAMPLES: Examples = {"one_text": {"inputs": _NOTES[0]}}
SIMILARITY_EXAMPLES: Examples = {"synonyms": {"inputs": _SYNONYMS}}
TOKENIZE_EXAMPLES: Examples = {"one_text": {"inputs": "warfarin 5 mg daily"}}


def _require_null(value: object) -> object:
    if value is not None:
        raise PydanticCustomError("no_prompts", "prompt_name must be null: the model was trained without prompts")
    return value


NoPrompt = Annotated[None, BeforeValidator(_require_null)]
"""TEI's ``prompt_name``, which its clients may send as null."""


class EmbedRequest(Schema):
    """Body of ``POST /embed`` and ``POST /embed_all``."""

    inputs: EmbeddingInput = Field(examples=[["chest pain radiating to the left arm"]])
    """One text or a list: strings, or the token ids of this model's tokenizer."""
    truncate: bool = False
    """Cut texts that are too long; otherwise they are refused."""
    truncation_direction: TruncationDirection = "Right"
    """The end that is cut."""
    normalize: bool | None = None
    """Scale vectors to unit length; absent: as the endpoint's recipe says. Has no effect on ``/embed_all``."""
    dimensions: Annotated[int, Field(ge=1)] | None = None
    """Width of the returned vectors, cut before they are scaled."""
    prompt_name: NoPrompt = None
    """Must be null or absent."""


class SimilarityInputs(Schema):
    """One text, and the texts that it is compared with."""

    source_sentence: str
    sentences: list[str]


class SimilarityParameters(Schema):
    """How the texts are read."""

    truncate: bool = False
    truncation_direction: TruncationDirection = "Right"
    prompt_name: NoPrompt = None
    """Must be null or absent."""


class SimilarityRequest(Schema):
    """Body of ``POST /similarity``; the answer is the cosine of each sentence with the source."""

    inputs: SimilarityInputs = Field(examples=[_SYNONYMS])
    parameters: SimilarityParameters = SimilarityParameters()


class TokenizeRequest(Schema):
    """Body of ``POST /tokenize``."""

    inputs: Texts = Field(examples=["warfarin 5 mg daily"])
    add_special_tokens: bool = True
    prompt_name: NoPrompt = None
    """Must be null or absent."""


class Token(Schema):
    """One token; ``start`` and ``stop`` count characters and are null for special tokens."""

    id: int
    text: str
    special: bool
    start: int | None
    stop: int | None


async def embed(service: EmbeddingService, request: EmbedRequest) -> Response:
    """Return one vector for each text."""
    service.check_dimensions(request.dimensions)
    outputs = await _run(service, request, task=EncodeTask)
    vectors_ND = service.engine.finish(
        np.stack(outputs.arrays), dimensions=request.dimensions, normalize=request.normalize
    )
    return await _answer(service, outputs, list(vectors_ND))


async def embed_all(service: EmbeddingService, request: EmbedRequest) -> Response:
    """Return the hidden state of every token of each text, special tokens included."""
    service.check_dimensions(request.dimensions)
    outputs = await _run(service, request, task=lambda ids: EncodeTask(ids, kind="tokens"))
    return await _answer(service, outputs, [states_TD[:, : request.dimensions] for states_TD in outputs.arrays])


async def similarity(service: EmbeddingService, request: SimilarityRequest, response: Response) -> list[float]:
    """Return the cosine of each sentence with the source."""
    if not request.inputs.sentences:
        raise problems.empty_input("inputs")
    outputs = await service.run(
        [request.inputs.source_sentence, *request.inputs.sentences],
        field="inputs",
        task=EncodeTask,
        truncate=request.parameters.truncate,
        cut_left=request.parameters.truncation_direction.lower() == "left",
    )
    response.headers["x-truncated"] = str(outputs.num_truncated)
    unit_ND = service.engine.finish(np.stack(outputs.arrays), dimensions=None, normalize=True)
    cosines: list[float] = (unit_ND[1:] @ unit_ND[0]).tolist()
    return cosines


async def tokenize(service: EmbeddingService, request: TokenizeRequest) -> list[list[Token]]:
    """Return the tokens of each text with their positions in the text."""
    texts = service.check_texts(request.inputs, "inputs")
    return await service.with_tokenizer(lambda: _tokens(service, texts, special=request.add_special_tokens))


async def _run(service: EmbeddingService, request: EmbedRequest, *, task: Callable[[list[int]], EncodeTask]) -> Outputs:
    left = request.truncation_direction.lower() == "left"
    return await service.run(request.inputs, field="inputs", task=task, truncate=request.truncate, cut_left=left)


async def _answer(service: EmbeddingService, outputs: Outputs, arrays: list[NDArray[np.float32]]) -> Response:
    # One array at a time: a single call over a large answer would hold the interpreter lock for its whole length.
    text = await service.aside(lambda: "[" + ",".join(json.dumps(array.tolist()) for array in arrays) + "]")
    headers = {"x-truncated": str(outputs.num_truncated), "x-compute-tokens": str(outputs.num_tokens)}
    return Response(text, media_type="application/json", headers=headers)


def _tokens(service: EmbeddingService, texts: list[str], *, special: bool) -> list[list[Token]]:
    tokenizer = service.engine.encoder.tokenizer
    encoded = tokenizer(texts, add_special_tokens=special, return_offsets_mapping=True, truncation=False)
    special_ids = set(tokenizer.all_special_ids)
    return [
        [
            Token(
                id=i,
                text=word,
                special=i in special_ids,
                start=None if i in special_ids else start,
                stop=None if i in special_ids else stop,
            )
            for i, word, (start, stop) in zip(ids, tokenizer.convert_ids_to_tokens(ids), offsets, strict=True)
        ]
        for ids, offsets in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
    ]
