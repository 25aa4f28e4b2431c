"""``/predict`` and ``/token-classify``: the classification head of a fine-tuned model.

``/predict`` has TEI's bodies, ``/token-classify`` those of Hugging Face's token-classification pipeline. A head may have
thousands of labels, as one for ICD codes, so an answer of ``/predict`` is bounded before it is computed, and rendered in slices.

Legend: N texts, T tokens of one text, L labels.
"""

import json
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Literal

import numpy as np
from fastapi import Response
from numpy.typing import NDArray
from pydantic import Field

from clinical_modernbert.encoder.spans import find_spans, scores
from clinical_modernbert.recipe.vocabulary import HeadKind
from clinical_modernbert.serving import problems
from clinical_modernbert.serving.engine import Engine
from clinical_modernbert.serving.forward import EncodeTask
from clinical_modernbert.serving.routes.rendering import check_items, render_lists
from clinical_modernbert.serving.routes.route import Examples
from clinical_modernbert.serving.schemas import Body, Form, Schema, Texts, TruncationDirection
from clinical_modernbert.serving.service import EmbeddingService

PREDICT_EXAMPLES: Examples = {
    "one_text": {"inputs": "Patients were randomised to aspirin or placebo."},
    "a_batch": {"inputs": [["short of breath"], ["ankle sprain"]]},
    "the_best_label": {"inputs": "short of breath", "parameters": {"top_k": 1}},
}
TOKEN_CLASSIFY_EXAMPLES: Examples = {
    "one_text": {"inputs": "Started warfarin 5 mg daily."},
    "every_token": {
        "inputs": ["Started warfarin."],
        "parameters": {"aggregation_strategy": "none", "ignore_labels": []},
    },
}
_SCORES_IN_JOB = 32_768
_PROBLEM_OF_FUNCTION = {
    "softmax": "single_label_classification",
    "sigmoid": "multi_label_classification",
    "none": "regression",
}


class PredictParameters(Body):
    """Options as Hugging Face's client sends them."""

    function_to_apply: Literal["softmax", "sigmoid", "none"] | None = None
    """How outputs become scores; absent: as the model was trained."""
    top_k: Annotated[int, Field(ge=1)] | None = None
    """Number of labels to answer, the best first; absent: all."""


class PredictRequest(Body):
    """Body of ``POST /predict``."""

    inputs: Annotated[
        str | Annotated[list[Annotated[list[str], Field(min_length=1, max_length=1)]], Field(min_length=1)],
        Form('a string, or a list of lists of one string each, as in [["one text"], ["another"]]'),
    ] = Field(examples=["Patients were randomised to aspirin or placebo.", [["short of breath"], ["ankle sprain"]]])
    """One text, or a batch in TEI's form: a list of lists of one text. A flat list is a pair in TEI, and is refused here."""
    raw_scores: bool = False
    """Answer the head's outputs instead of probabilities."""
    truncate: bool = False
    """Cut texts that are too long; otherwise they are refused."""
    truncation_direction: TruncationDirection = "Right"
    """The end that is cut."""
    parameters: PredictParameters | None = None


class ClassScore(Schema):
    """One label of one text."""

    score: float
    label: str


class TokenClassifyParameters(Body):
    """How tokens become spans, with the names of Hugging Face's pipeline."""

    aggregation_strategy: Literal["none", "simple", "first", "average", "max"] | None = None
    """``none``: every token; ``simple``: adjacent tokens; ``first`` (default), ``average``, ``max``: whole words."""
    ignore_labels: list[str] | None = None
    """Labels that are left out; ``O`` by default."""
    stride: None = None
    """Must be null or absent: windows do not overlap."""


class TokenClassifyRequest(Body):
    """Body of ``POST /token-classify``."""

    inputs: Texts = Field(examples=["Started warfarin 5 mg daily for atrial fibrillation."])
    """One text or a list."""
    parameters: TokenClassifyParameters | None = None
    truncate: bool = False
    """Label only the part of a long text that the model reads; otherwise it is refused."""
    windows: bool = False
    """Read texts that are too long in independent windows and label all of them."""


class LabelledSpan(Schema):
    """One span; ``start`` and ``end`` count characters of the text as it was sent."""

    entity_group: str | None = None
    """Class of the span, without B- and I-."""
    entity: str | None = None
    """Label of the token, if every token is answered."""
    score: float
    word: str
    start: int
    end: int


async def predict(service: EmbeddingService, request: PredictRequest) -> Response:
    """Return the labels of each text, the most likely first."""
    engine, parameters = service.engine, request.parameters
    _require(engine, "sequence")
    texts = [request.inputs] if isinstance(request.inputs, str) else [pair[0] for pair in request.inputs]
    labels, top_k = engine.labels, parameters.top_k if parameters else None
    service.check_texts(texts, "inputs")
    num_scores, limit = min(top_k or len(labels), len(labels)), engine.recipe.limits.max_class_scores
    check_items(len(texts), num_scores, name="scores", limit=limit, setting="max_class_scores")
    outputs = await service.run(
        texts,
        field="inputs",
        task=lambda ids: EncodeTask(ids, kind="classify"),
        truncate=request.truncate,
        cut_left=request.truncation_direction.lower() == "left",
    )
    problem = _PROBLEM_OF_FUNCTION.get((parameters and parameters.function_to_apply) or "", engine.problem)
    scores_NL = scores(np.stack(outputs.arrays), problem="regression" if request.raw_scores else problem)
    (content,) = await render_lists(
        service,
        [scores_NL],
        partial(_render_scores, labels=labels, top_k=top_k),
        items_in_job=max(_SCORES_IN_JOB // len(labels), 1),
    )
    headers = {"x-truncated": str(outputs.num_truncated)}
    content = content[1:-1] if isinstance(request.inputs, str) else content
    return Response(content, media_type="application/json", headers=headers)


async def token_classify(
    service: EmbeddingService, request: TokenClassifyRequest, response: Response
) -> list[LabelledSpan] | list[list[LabelledSpan]]:
    """Return the labelled spans of each text with their positions in the text."""
    engine, parameters = service.engine, request.parameters or TokenClassifyParameters()
    _require(engine, "token")
    texts = service.check_texts(request.inputs, "inputs")

    def encode(some: list[str]) -> list[tuple[list[int], list[tuple[int, int]]]]:
        encoded = engine.encoder.tokenizer(some, return_offsets_mapping=True, truncation=False, padding=False)
        return list(zip(encoded["input_ids"], encoded["offset_mapping"], strict=True))

    encoded = await service.tokenize_in_slices(texts, encode)
    outputs = await service.run(
        [ids for ids, _ in encoded],
        field="inputs",
        task=lambda ids: EncodeTask(ids, kind="label"),
        truncate=request.truncate,
        windows=request.windows,
    )
    response.headers["x-truncated"] = str(outputs.num_truncated)

    answers = await service.aside(
        partial(_spans, engine, text, offsets, outputs.arrays[first:stop], parameters)
        for text, (_, offsets), (first, stop) in zip(texts, encoded, outputs.ranges, strict=True)
    )
    return answers[0] if isinstance(request.inputs, str) else answers


def _render_scores(scores_NL: NDArray[np.float32], *, labels: Sequence[str], top_k: int | None) -> str:
    return json.dumps(
        [
            [{"score": float(row_L[i]), "label": labels[i]} for i in np.argsort(-row_L)[:top_k].tolist()]
            for row_L in scores_NL
        ]
    )


def _spans(
    engine: Engine,
    text: str,
    offsets: list[tuple[int, int]],
    logits: list[NDArray[np.float32]],
    parameters: TokenClassifyParameters,
) -> list[LabelledSpan]:
    """Return the spans of one text from the logits [T, L] of each of its windows."""
    ignored = set(["O"] if parameters.ignore_labels is None else parameters.ignore_labels)
    grouping = parameters.aggregation_strategy or "first"
    # Every window has its own [CLS] and [SEP]; without them the text's own tokens remain, up to where it was cut.
    scores_TL = scores(np.concatenate([window_TL[1:-1] for window_TL in logits]), problem=None)
    spans = find_spans(text, offsets[1:-1][: len(scores_TL)], scores_TL, engine.labels, grouping=grouping)
    return [
        LabelledSpan(
            entity=span.label if grouping == "none" else None,
            entity_group=None if grouping == "none" else span.label,
            score=span.score,
            word=text[span.start : span.stop],
            start=span.start,
            end=span.stop,
        )
        for span in spans
        if span.label not in ignored
    ]


def _require(engine: Engine, head: HeadKind) -> None:
    if engine.head != head:
        raise problems.no_head(head, engine.head)
