"""``/embed_sparse`` (TEI): the words of the vocabulary that a text weighs, from the masked-language head as SPLADE pools it.

The weight of a word is the largest of log(1 + max(0, logit)) over the text's tokens; words without one are left out. A head that
was not trained for it weighs about half of its vocabulary, so an answer is bounded by what it may hold, before it is computed.
"""

import json
from collections.abc import Sequence
from typing import Annotated

import numpy as np
from fastapi import Response
from numpy.typing import NDArray
from pydantic import Field

from clinical_modernbert.serving import problems
from clinical_modernbert.serving.forward import EncodeTask
from clinical_modernbert.serving.routes.rendering import check_items, render_lists
from clinical_modernbert.serving.routes.route import Examples
from clinical_modernbert.serving.schemas import Body, EmbeddingInput, Schema, TruncationDirection
from clinical_modernbert.serving.service import EmbeddingService, as_list

_NOTE = "chest pain radiating to the left arm"
EXAMPLES: Examples = {
    "one_text": {"inputs": _NOTE},
    "the_heaviest_words": {"inputs": [_NOTE, "no acute distress"], "top_k": 32},
}
_VALUES_IN_JOB = 32_768


class EmbedSparseRequest(Body):
    """Body of ``POST /embed_sparse``."""

    inputs: EmbeddingInput = Field(examples=[[_NOTE]])
    """One text or a list: strings, or the token ids of this model's tokenizer."""
    top_k: Annotated[int, Field(ge=1)] | None = None
    """Answer the heaviest words only, at most this many for each text; absent: all with a weight."""
    truncate: bool = False
    """Cut texts that are too long; otherwise they are refused."""
    truncation_direction: TruncationDirection = "Right"
    """The end that is cut."""
    prompt_name: str | None = None
    """One of the model's prompts, which precedes each text; absent: the model's default prompt, if it has one."""


class SparseValue(Schema):
    """One word with a weight."""

    index: int
    """Its id in the vocabulary of the model's tokenizer."""
    value: float


async def embed_sparse(service: EmbeddingService, request: EmbedSparseRequest) -> Response:
    """Return the words that each text weighs, by their ids, for an index of words; the model needs a masked-language head."""
    engine = service.engine
    if engine.head != "masked-lm":
        raise problems.no_head("masked-lm", engine.head)
    top_k = min(request.top_k or engine.vocabulary_size, engine.vocabulary_size)
    num_texts, limit = len(as_list(request.inputs, "inputs")[0]), engine.recipe.limits.max_sparse_values
    check_items(num_texts, top_k, name="values", limit=limit, setting="max_sparse_values")
    outputs = await service.run(
        service.with_prompt(request.inputs, request.prompt_name, field="inputs"),
        field="inputs",
        task=lambda ids: EncodeTask(ids, kind="sparse", top_k=top_k, vocabulary_size=engine.vocabulary_size),
        truncate=request.truncate,
        cut_left=request.truncation_direction.lower() == "left",
    )
    words = [answer_2K.T for answer_2K in outputs.arrays]
    contents = await render_lists(service, words, _render, items_in_job=_VALUES_IN_JOB)
    headers = {"x-truncated": str(outputs.num_truncated), "x-compute-tokens": str(outputs.num_tokens)}
    return Response(f"[{','.join(contents)}]", media_type="application/json", headers=headers)


def _render(words_K2: NDArray[np.float32]) -> str:
    pairs: Sequence[tuple[float, float]] = words_K2.tolist()
    return json.dumps([{"index": int(index), "value": value} for index, value in pairs])
