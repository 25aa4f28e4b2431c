"""Routes of text-embeddings-inference (TEI): ``/embed``, ``/embed_all``, ``/similarity`` and ``/tokenize``.

Hugging Face's inference client calls them too. The answers are bare lists without room for a mark on a text that was cut, so
the header ``x-truncated`` counts such texts.
"""

from collections.abc import Callable
from typing import Annotated

import numpy as np
from fastapi import Response
from pydantic import Field, TypeAdapter

from clinical_modernbert.serving import problems
from clinical_modernbert.serving.forward import EncodeTask
from clinical_modernbert.serving.metrics import TALLY, Tally
from clinical_modernbert.serving.routes.rendering import NUMBERS_IN_JOB, render_lists, render_numbers
from clinical_modernbert.serving.routes.route import Examples
from clinical_modernbert.serving.schemas import Body, EmbeddingInput, Schema, Texts, TruncationDirection
from clinical_modernbert.serving.service import EmbeddingService, Outputs, SomeTexts

_NOTES = ["chest pain radiating to the left arm", "no acute distress"]
_SYNONYMS = {"source_sentence": "short of breath", "sentences": ["dyspnoea", "ankle sprain"]}
EMBED_EXAMPLES: Examples = {
    "one_text": {"inputs": _NOTES[0]},
    "a_list_cut_where_too_long": {"inputs": _NOTES, "truncate": True},
}
EMBED_ALL_EXAMPLES: Examples = {"one_text": {"inputs": _NOTES[0]}}
SIMILARITY_EXAMPLES: Examples = {"synonyms": {"inputs": _SYNONYMS}}
TOKENIZE_EXAMPLES: Examples = {"one_text": {"inputs": "warfarin 5 mg daily"}}


class EmbedRequest(Body):
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
    prompt_name: str | None = None
    """One of the model's prompts, which precedes each text; absent: the model's default prompt, if it has one."""


class SimilarityInputs(Body):
    """One text, and the texts that it is compared with."""

    source_sentence: str
    sentences: list[str]


class SimilarityParameters(Body):
    """How the texts are read."""

    truncate: bool = False
    truncation_direction: TruncationDirection = "Right"
    prompt_name: str | None = None
    """One of the model's prompts."""


class SimilarityRequest(Body):
    """Body of ``POST /similarity``; the answer is the cosine of each sentence with the source."""

    inputs: SimilarityInputs = Field(examples=[_SYNONYMS])
    parameters: SimilarityParameters = SimilarityParameters()


class TokenizeRequest(Body):
    """Body of ``POST /tokenize``."""

    inputs: Texts = Field(examples=["warfarin 5 mg daily"])
    add_special_tokens: bool = True
    prompt_name: str | None = None
    """One of the model's prompts."""


class Token(Schema):
    """One token; ``start`` and ``stop`` count characters and are null for special tokens."""

    id: int
    text: str
    special: bool
    start: int | None
    stop: int | None


_Place = tuple[int, str, tuple[int, int]]
"""A token's id, its text, and its first character with one past its last."""
_TOKENS = TypeAdapter(list[Token])
_TOKENS_IN_JOB = 8192


async def embed(service: EmbeddingService, request: EmbedRequest) -> Response:
    """Return one vector for each text."""
    service.check_dimensions(request.dimensions)
    outputs = await _run(service, request, task=EncodeTask)
    vectors_ND = service.engine.finish(
        np.stack(outputs.arrays), dimensions=request.dimensions, normalize=request.normalize
    )
    (content,) = await render_lists(
        service, [vectors_ND], render_numbers, items_in_job=max(NUMBERS_IN_JOB // vectors_ND.shape[1], 1)
    )
    return _answer(outputs, content)


async def embed_all(service: EmbeddingService, request: EmbedRequest) -> Response:
    """Return the hidden state of every token of each text, special tokens included."""
    service.check_dimensions(request.dimensions)
    width, limit = service.engine.encoder.hidden_size, service.engine.recipe.limits.max_state_numbers

    def check(num_tokens: int) -> None:
        if num_tokens * width > limit:
            fits = f"max_state_numbers={limit}, which is {limit // width} tokens: split the request"
            raise problems.answer_too_large("inputs", f"{num_tokens} tokens of {width} numbers each", fits)

    outputs = await _run(service, request, task=lambda ids: EncodeTask(ids, kind="tokens"), check_tokens=check)
    states = [states_TD[:, : request.dimensions] for states_TD in outputs.arrays]
    contents = await render_lists(service, states, render_numbers, items_in_job=max(NUMBERS_IN_JOB // width, 1))
    return _answer(outputs, f"[{','.join(contents)}]")


async def similarity(service: EmbeddingService, request: SimilarityRequest, response: Response) -> list[float]:
    """Return the cosine of each sentence with the source."""
    source, sentences = request.inputs.source_sentence, request.inputs.sentences
    service.check_texts(source, "inputs.source_sentence")
    service.check_texts(sentences, "inputs.sentences")
    params = ["inputs.source_sentence", *(f"inputs.sentences[{i}]" for i in range(len(sentences)))]
    outputs = await service.run(
        service.with_prompt(SomeTexts([source, *sentences], params), request.parameters.prompt_name, field="inputs"),
        field="inputs",
        task=EncodeTask,
        truncate=request.parameters.truncate,
        cut_left=request.parameters.truncation_direction.lower() == "left",
    )
    response.headers["x-truncated"] = str(outputs.num_truncated)
    unit_ND = service.engine.finish(np.stack(outputs.arrays), dimensions=None, normalize=True)
    cosines: list[float] = (unit_ND[1:] @ unit_ND[0]).tolist()
    return cosines


async def tokenize(service: EmbeddingService, request: TokenizeRequest) -> Response:
    """Return the tokens of each text with their positions in the text."""
    prompt, limit = service.prompt(request.prompt_name), service.engine.recipe.limits.max_tokenized
    texts = [prompt + text for text in service.check_texts(request.inputs, "inputs")]
    (TALLY.get(None) or Tally()).num_texts = len(texts)
    tokenizer = service.engine.encoder.tokenizer
    special_ids = frozenset(tokenizer.all_special_ids)
    num_tokens = 0

    def encode(some: list[str]) -> list[list[_Place]]:
        nonlocal num_tokens
        encoded = tokenizer(
            some, add_special_tokens=request.add_special_tokens, return_offsets_mapping=True, truncation=False
        )
        num_tokens += sum(len(ids) for ids in encoded["input_ids"])
        if num_tokens > limit:
            fits = f"max_tokenized={limit}: split the request"
            raise problems.answer_too_large("inputs", f"at least {num_tokens} tokens", fits)
        return [
            list(zip(ids, tokenizer.convert_ids_to_tokens(ids), offsets, strict=True))
            for ids, offsets in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
        ]

    places = await service.tokenize_in_slices(texts, encode)
    contents = await render_lists(
        service, places, lambda some: _render_tokens(some, special_ids), items_in_job=_TOKENS_IN_JOB
    )
    return Response(f"[{','.join(contents)}]", media_type="application/json")


async def _run(
    service: EmbeddingService,
    request: EmbedRequest,
    *,
    task: Callable[[list[int]], EncodeTask],
    check_tokens: Callable[[int], None] = lambda _: None,
) -> Outputs:
    return await service.run(
        service.with_prompt(request.inputs, request.prompt_name, field="inputs"),
        field="inputs",
        task=task,
        truncate=request.truncate,
        cut_left=request.truncation_direction.lower() == "left",
        check_tokens=check_tokens,
    )


def _answer(outputs: Outputs, content: str) -> Response:
    headers = {"x-truncated": str(outputs.num_truncated), "x-compute-tokens": str(outputs.num_tokens)}
    return Response(content, media_type="application/json", headers=headers)


def _render_tokens(places: list[_Place], special_ids: frozenset[int]) -> str:
    tokens = [
        Token(
            id=i,
            text=word,
            special=i in special_ids,
            start=None if i in special_ids else start,
            stop=None if i in special_ids else stop,
        )
        for i, word, (start, stop) in places
    ]
    return _TOKENS.dump_json(tokens).decode()
