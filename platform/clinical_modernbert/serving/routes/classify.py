"""/predict and /token-classify: the head of a fine-tuned export, on the same scheduler as every other route."""

from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Response

from clinical_modernbert.encoder.embed import Head
from clinical_modernbert.serving import problems
from clinical_modernbert.serving.examples import body
from clinical_modernbert.serving.forward import Work
from clinical_modernbert.serving.heads import find_spans, scores
from clinical_modernbert.serving.routes.classify_schemas import (
    ClassScore,
    LabelledSpan,
    PredictRequest,
    TokenClassifyParameters,
    TokenClassifyRequest,
)
from clinical_modernbert.serving.service import EmbeddingService

_PROBLEM_OF_FUNCTION = {
    "softmax": "single_label_classification",
    "sigmoid": "multi_label_classification",
    "none": "regression",
}


def build_classify_routes(service: EmbeddingService) -> APIRouter:
    """Return the routes over a service; without the right head they answer 404 with the reason."""
    router = APIRouter()
    engine = service.engine

    @router.post("/predict", response_model=list[ClassScore] | list[list[ClassScore]])
    async def predict(request: Annotated[PredictRequest, body("/predict")], response: Response) -> Any:
        """Return the labels of each text, the likeliest first."""
        _require("sequence")
        parameters = request.parameters
        texts = [request.inputs] if isinstance(request.inputs, str) else [pair[0] for pair in request.inputs]
        found = await service.run(
            service.check_texts(texts, "inputs"),
            field="inputs",
            work=lambda ids: Work(ids, kind="classify"),
            truncate=request.truncate,
            cut_left=request.truncation_direction.lower() == "left",
        )
        response.headers["x-truncated"] = str(sum(found.cut))
        wanted = _PROBLEM_OF_FUNCTION.get((parameters and parameters.function_to_apply) or "", engine.problem)
        likely_NL = scores(np.stack(found.answers), problem="regression" if request.raw_scores else wanted)
        top_k = parameters.top_k if parameters else None
        answers = [
            [ClassScore(score=float(row_L[i]), label=engine.labels[i]) for i in np.argsort(-row_L)[:top_k]]
            for row_L in likely_NL
        ]
        return answers[0] if isinstance(request.inputs, str) else answers

    @router.post(
        "/token-classify",
        response_model=list[LabelledSpan] | list[list[LabelledSpan]],
        response_model_exclude_none=True,
    )
    async def token_classify(
        request: Annotated[TokenClassifyRequest, body("/token-classify")], response: Response
    ) -> Any:
        """Return the labelled spans of each text with their places in it."""
        _require("token")
        texts = service.check_texts(request.inputs, "inputs")
        tokenizer = engine.encoder.tokenizer
        encoded = await service.with_tokenizer(
            lambda: tokenizer(texts, return_offsets_mapping=True, truncation=False, padding=False)
        )
        found = await service.run(
            encoded["input_ids"],
            field="inputs",
            work=lambda ids: Work(ids, kind="label"),
            truncate=request.truncate,
            windows=request.windows,
        )
        response.headers["x-truncated"] = str(sum(found.cut))
        parameters = request.parameters or TokenClassifyParameters()
        ignored = set(["O"] if parameters.ignore_labels is None else parameters.ignore_labels)
        grouping = parameters.aggregation_strategy or "first"

        def spans(i: int) -> list[LabelledSpan]:
            first, behind = found.spans[i]
            # [CLS] and [SEP] of every window left out: what remains is the text's own tokens, a cut end missing.
            likely_TL = scores(np.concatenate([a[1:-1] for a in found.answers[first:behind]]), problem=None)
            offsets = encoded["offset_mapping"][i][1:-1][: len(likely_TL)]
            return [
                LabelledSpan(
                    entity=span.label if grouping == "none" else None,
                    entity_group=None if grouping == "none" else span.label,
                    score=span.score,
                    word=texts[i][span.start : span.stop],
                    start=span.start,
                    end=span.stop,
                )
                for span in find_spans(texts[i], offsets, likely_TL, engine.labels, grouping=grouping)
                if span.label not in ignored
            ]

        answers = await service.aside(lambda: [spans(i) for i in range(len(texts))])
        return answers[0] if isinstance(request.inputs, str) else answers

    def _require(head: Head) -> None:
        if engine.head != head:
            raise problems.no_head(head, engine.head)

    return router
