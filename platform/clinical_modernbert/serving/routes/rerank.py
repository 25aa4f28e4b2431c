"""``/rerank`` (TEI) and ``/v1/rerank``, ``/v2/rerank`` (Cohere, Jina, vLLM): texts in the order of their relevance to a query.

A model with a head of one label scores each pair of query and text (a cross-encoder). Any other model compares vectors: the score
is the cosine, with the model's prompts ``query`` and ``document`` where it has them.
"""

import numpy as np
from fastapi import Response
from numpy.typing import NDArray
from pydantic import Field

from clinical_modernbert.encoder.spans import scores
from clinical_modernbert.serving import problems
from clinical_modernbert.serving.forward import EncodeTask
from clinical_modernbert.serving.routes.openai import Usage
from clinical_modernbert.serving.routes.route import Examples
from clinical_modernbert.serving.schemas import Body, Schema, TruncationDirection
from clinical_modernbert.serving.service import EmbeddingService, Outputs, SomeTexts

_QUERY, _TEXTS = "short of breath", ["dyspnoea on exertion", "ankle sprain"]
RERANK_EXAMPLES: Examples = {"two_texts": {"query": _QUERY, "texts": _TEXTS, "return_text": True}}
V1_RERANK_EXAMPLES: Examples = {"the_best": {"query": _QUERY, "documents": _TEXTS, "top_n": 1}}


class RerankRequest(Body):
    """Body of ``POST /rerank``."""

    query: str
    texts: list[str] = Field(examples=[_TEXTS])
    raw_scores: bool = False
    """Answer the head's output instead of its sigmoid; cosines are answered as they are."""
    return_text: bool = False
    top_n: int | None = Field(default=None, ge=1)
    """Number of texts to answer, the best first; absent: all. TEI lacks it, and LiteLLM sends it."""
    truncate: bool = False
    """Cut texts that are too long; otherwise they are refused."""
    truncation_direction: TruncationDirection = "Right"
    """The end that is cut; pairs are cut at their right end only."""


class Rank(Schema):
    """One text, by its position in the request."""

    index: int
    text: str | None = None
    score: float


class V1RerankRequest(Body):
    """Body of ``POST /v1/rerank``."""

    model: str | None = None
    """Id of a served model, its name alone, or an alias; absent: the first that the key may use."""
    query: str
    documents: list[str] = Field(examples=[_TEXTS])
    top_n: int | None = Field(default=None, ge=1)
    """Number of documents to answer, the best first; absent: all."""
    return_documents: bool = False
    truncate: bool = False
    """Cut documents that are too long; otherwise they are refused."""


class Document(Schema):
    """The text of a result."""

    text: str


class Result(Schema):
    """One document, by its position in the request."""

    index: int
    relevance_score: float
    document: Document | None = None


class V1RerankResponse(Schema):
    """Answer of ``POST /v1/rerank``."""

    object: str = "list"
    model: str
    results: list[Result]
    usage: Usage


async def rerank(service: EmbeddingService, request: RerankRequest, response: Response) -> list[Rank]:
    """Return the texts by their relevance to the query, the most relevant first."""
    cut_left = request.truncation_direction.lower() == "left"
    found_N, outputs = await _score(
        service, request.query, request.texts, field="texts", truncate=request.truncate, cut_left=cut_left
    )
    response.headers["x-truncated"] = str(outputs.num_truncated)
    if not request.raw_scores and _is_cross_encoder(service):
        found_N = scores(found_N[:, None], problem=None)[:, 0]
    order = np.argsort(-found_N, kind="stable").tolist()[: request.top_n]
    return [
        Rank(index=i, score=float(found_N[i]), text=request.texts[i] if request.return_text else None) for i in order
    ]


async def v1_rerank(service: EmbeddingService, request: V1RerankRequest, response: Response) -> V1RerankResponse:
    """Return the documents by their relevance to the query, the most relevant first."""
    found_N, outputs = await _score(
        service, request.query, request.documents, field="documents", truncate=request.truncate, cut_left=False
    )
    response.headers["x-truncated"] = str(outputs.num_truncated)
    if _is_cross_encoder(service):
        found_N = scores(found_N[:, None], problem=None)[:, 0]
    order = np.argsort(-found_N, kind="stable").tolist()[: request.top_n]
    results = [
        Result(
            index=i,
            relevance_score=float(found_N[i]),
            document=Document(text=request.documents[i]) if request.return_documents else None,
        )
        for i in order
    ]
    usage = Usage(prompt_tokens=outputs.num_tokens, total_tokens=outputs.num_tokens)
    return V1RerankResponse(model=service.engine.model_id, results=results, usage=usage)


async def _score(
    service: EmbeddingService, query: str, texts: list[str], *, field: str, truncate: bool, cut_left: bool
) -> tuple[NDArray[np.float32], Outputs]:
    """Return the head's output for each pair, or each text's cosine with the query."""
    service.check_texts(query, "query")
    service.check_texts(texts, field)
    if _is_cross_encoder(service):
        tokenizer = service.engine.encoder.tokenizer
        await _check_query(service, query, len(texts), field=field)

        def encode(some: list[str]) -> list[list[int]]:
            encoded: list[list[int]] = tokenizer([query] * len(some), some, truncation=False, padding=False)[
                "input_ids"
            ]
            return encoded

        pairs = await service.tokenize_in_slices(texts, encode, more_characters=len(query))
        outputs = await service.run(
            pairs, field=field, truncate=truncate, task=lambda ids: EncodeTask(ids, kind="classify")
        )
        return np.concatenate(outputs.arrays), outputs
    prompts = service.engine.prompts.texts
    prompted = [f"{prompts.get('document', '')}{text}" for text in texts]
    params = [f"{field}[{i}]" for i in range(len(texts))]
    outputs = await service.run(
        SomeTexts([f"{prompts.get('query', '')}{query}", *prompted], ["query", *params]),
        field=field,
        truncate=truncate,
        cut_left=cut_left,
        task=EncodeTask,
    )
    unit_ND = service.engine.finish(np.stack(outputs.arrays), dimensions=None, normalize=True)
    return np.asarray(unit_ND[1:] @ unit_ND[0], dtype=np.float32), outputs


async def _check_query(service: EmbeddingService, query: str, num_texts: int, *, field: str) -> None:
    """Refuse a query that leaves no room for a text, or whose pairs take too long: each text's pair repeats the query.

    Raises ``ProblemError``, before any pair is made.
    """
    tokenizer = service.engine.encoder.tokenizer
    (ids,) = await service.tokenize([query])
    between = tokenizer.num_special_tokens_to_add(pair=True) - tokenizer.num_special_tokens_to_add(pair=False)
    most = service.engine.max_tokens - between - 1
    if len(ids) > most:
        raise problems.query_too_long(len(ids), most)
    service.check_fits(num_texts, num_texts * (len(ids) + between), field=field)


def _is_cross_encoder(service: EmbeddingService) -> bool:
    """Whether the head scores pairs: it has one label. Raises ``ProblemError`` for a model with token types."""
    engine = service.engine
    if engine.head != "sequence" or len(engine.labels) != 1:
        return False
    if getattr(engine.encoder.model.config, "type_vocab_size", 0) > 1:
        raise problems.no_pairs()
    return True
