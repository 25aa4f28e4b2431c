"""Routes of TEI and of Hugging Face's inference client, on the same scheduler as OpenAI's route."""

import json
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Response
from numpy.typing import NDArray

from clinical_modernbert.serving import problems
from clinical_modernbert.serving.examples import body
from clinical_modernbert.serving.forward import Work
from clinical_modernbert.serving.routes.tei_schemas import (
    EmbedRequest,
    FillMaskAnswer,
    FillMaskParameters,
    FillMaskRequest,
    SimilarityRequest,
    Token,
    TokenizeRequest,
)
from clinical_modernbert.serving.service import EmbeddingService, Found

Filled = list[FillMaskAnswer] | list[list[FillMaskAnswer]] | list[list[FillMaskAnswer] | list[list[FillMaskAnswer]]]


def build_routes(service: EmbeddingService) -> APIRouter:
    """Return the routes over a service."""
    router = APIRouter()

    @router.post("/embed", response_model=list[list[float]])
    @router.post("/", response_model=list[list[float]], include_in_schema=False)
    async def embed(request: Annotated[EmbedRequest, body("/embed")]) -> Response:
        """Return one vector for each text."""
        service.check_dimensions(request.dimensions)
        found = await _run(service, request, kind=Work)
        vectors_ND = service.engine.finish(
            np.stack(found.answers), dimensions=request.dimensions, normalize=request.normalize
        )
        return await _answer(service, found, list(vectors_ND))

    @router.post("/embed_all", response_model=list[list[list[float]]])
    async def embed_all(request: Annotated[EmbedRequest, body("/embed_all")]) -> Response:
        """Return the state of every token of each text, special tokens included."""
        service.check_dimensions(request.dimensions)
        found = await _run(service, request, kind=lambda ids: Work(ids, kind="tokens"))
        return await _answer(service, found, [states_TD[:, : request.dimensions] for states_TD in found.answers])

    @router.post("/similarity")
    async def similarity(request: Annotated[SimilarityRequest, body("/similarity")], response: Response) -> list[float]:
        """Return the cosine of each sentence with the source."""
        if not request.inputs.sentences:
            raise problems.empty_input("inputs")
        found = await service.run(
            [request.inputs.source_sentence, *request.inputs.sentences],
            field="inputs",
            work=Work,
            truncate=request.parameters.truncate,
            cut_left=request.parameters.truncation_direction.lower() == "left",
        )
        response.headers["x-truncated"] = str(sum(found.cut))
        unit_ND = service.engine.finish(np.stack(found.answers), dimensions=None, normalize=True)
        scores: list[float] = (unit_ND[1:] @ unit_ND[0]).tolist()
        return scores

    @router.post("/tokenize")
    async def tokenize(request: Annotated[TokenizeRequest, body("/tokenize")]) -> list[list[Token]]:
        """Return the tokens of each text with their places in it."""
        texts = service.check_texts(request.inputs, "inputs")
        return await service.with_tokenizer(lambda: _tokens(service, texts, special=request.add_special_tokens))

    @router.post("/fill-mask", response_model=Filled)
    async def fill_mask(request: Annotated[FillMaskRequest, body("/fill-mask")]) -> Any:
        """Return the likeliest tokens at each mask, a list deeper where a text has several masks, and for a list of texts."""
        if service.engine.head != "masked-lm":
            raise problems.no_head("masked-lm", service.engine.head)
        texts = service.check_texts(request.inputs, "inputs")
        parameters = request.parameters
        targets = await service.with_tokenizer(lambda: _target_ids(service, parameters))
        mask_id = service.engine.encoder.tokenizer.mask_token_id
        mask = str(service.engine.encoder.tokenizer.mask_token)

        def work(ids: list[int]) -> Work:
            return Work(
                ids,
                kind="fill",
                masks=tuple(i for i, found in enumerate(ids) if found == mask_id),
                top_k=parameters.top_k,
                targets=targets,
                num_words=service.engine.vocabulary_size,
            )

        for i, text in enumerate(texts):
            if mask not in text:
                raise problems.no_mask("inputs" if isinstance(request.inputs, str) else f"inputs[{i}]", mask)
        found = await service.run(texts, field="inputs", work=work)
        answers = await service.with_tokenizer(
            lambda: [_filled(service, ids, a) for ids, a in zip(found.token_ids, found.answers, strict=True)]
        )
        plain = [masks[0] if len(masks) == 1 else masks for masks in answers]
        return plain[0] if isinstance(request.inputs, str) else plain

    return router


async def _run(service: EmbeddingService, request: EmbedRequest, *, kind: Callable[[list[int]], Work]) -> Found:
    left = request.truncation_direction.lower() == "left"
    return await service.run(request.inputs, field="inputs", work=kind, truncate=request.truncate, cut_left=left)


async def _answer(service: EmbeddingService, found: Found, arrays: list[NDArray[np.float32]]) -> Response:
    # One array at a time: a single call over a large answer would hold the interpreter for its whole length.
    text = await service.aside(lambda: "[" + ",".join(json.dumps(array.tolist()) for array in arrays) + "]")
    headers = {"x-truncated": str(sum(found.cut)), "x-compute-tokens": str(found.num_tokens)}
    return Response(text, media_type="application/json", headers=headers)


def _tokens(service: EmbeddingService, texts: list[str], *, special: bool) -> list[list[Token]]:
    tokenizer = service.engine.encoder.tokenizer
    encoded = tokenizer(texts, add_special_tokens=special, return_offsets_mapping=True, truncation=False)
    known = set(tokenizer.all_special_ids)
    return [
        [
            Token(
                id=i,
                text=word,
                special=i in known,
                start=None if i in known else a,
                stop=None if i in known else b,
            )
            for i, word, (a, b) in zip(ids, tokenizer.convert_ids_to_tokens(ids), offsets, strict=True)
        ]
        for ids, offsets in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
    ]


def _target_ids(service: EmbeddingService, parameters: FillMaskParameters) -> tuple[int, ...]:
    """Return one id a target: of the word as it stands after a space, else of the word alone."""
    tokenizer, ids = service.engine.encoder.tokenizer, []
    for i, target in enumerate(parameters.targets or ()):
        param = f"parameters.targets[{i}]"
        try:
            forms = [tokenizer(form, add_special_tokens=False)["input_ids"] for form in (f" {target}", target)]
        except (UnicodeEncodeError, TypeError):
            raise problems.invalid_unicode(param) from None
        single = [form[0] for form in forms if len(form) == 1]
        if not single:
            raise problems.bad_token_ids(param, "a target must be a single token of the vocabulary")
        ids.append(single[0])
    return tuple(dict.fromkeys(ids))


def _filled(service: EmbeddingService, ids: list[int], answer_2MK: NDArray[np.float32]) -> list[list[FillMaskAnswer]]:
    tokenizer = service.engine.encoder.tokenizer
    places = [i for i, found in enumerate(ids) if found == tokenizer.mask_token_id]
    filled = []
    for place, words, scores in zip(places, answer_2MK[0], answer_2MK[1], strict=True):
        answers = []
        for word, score in zip(words, scores, strict=True):
            token = int(word)
            text = tokenizer.decode([*ids[1:place], token, *ids[place + 1 : -1]])
            answers.append(
                FillMaskAnswer(score=float(score), token=token, token_str=tokenizer.decode([token]), sequence=text)
            )
        filled.append(answers)
    return filled
