"""``/fill-mask``: the most likely tokens at each mask, in the form of Hugging Face's fill-mask pipeline."""

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from clinical_modernbert.serving import problems
from clinical_modernbert.serving.forward import EncodeTask
from clinical_modernbert.serving.routes.route import Examples
from clinical_modernbert.serving.schemas import Schema, Texts
from clinical_modernbert.serving.service import EmbeddingService

EXAMPLES: Examples = {
    "the_likeliest": {"inputs": "warfarin 5 [MASK] daily"},
    "among_targets": {"inputs": "warfarin 5 [MASK] daily", "parameters": {"targets": ["m", "x"]}},
}


class FillMaskParameters(Schema):
    """What to answer for each mask."""

    top_k: Annotated[int, Field(ge=1, le=1000)] = 5
    targets: Annotated[list[str], Field(min_length=1)] | None = None
    """Choose among these; each must be a single token of the vocabulary."""


class FillMaskRequest(Schema):
    """Body of ``POST /fill-mask``."""

    inputs: Texts = Field(examples=["warfarin 5 [MASK] daily"])
    """One text or a list, with the model's mask token at least once in each."""
    parameters: FillMaskParameters = FillMaskParameters()


class FillMaskAnswer(Schema):
    """One likely token of one mask."""

    score: float
    token: int
    token_str: str
    sequence: str


TextAnswer = list[FillMaskAnswer] | list[list[FillMaskAnswer]]
"""Tokens of the only mask of a text, or one list for each of its masks."""
Filled = list[FillMaskAnswer] | list[list[FillMaskAnswer]] | list[list[FillMaskAnswer] | list[list[FillMaskAnswer]]]


async def fill_mask(service: EmbeddingService, request: FillMaskRequest) -> TextAnswer | list[TextAnswer]:
    """Return the most likely tokens at each mask.

    The answer is a list of tokens; a text with several masks adds one level of lists, and so does a list of texts.
    """
    engine, parameters = service.engine, request.parameters
    if engine.head != "masked-lm":
        raise problems.no_head("masked-lm", engine.head)
    texts = service.check_texts(request.inputs, "inputs")
    targets = await service.with_tokenizer(lambda: _target_ids(service, parameters))
    mask_id, mask = engine.encoder.tokenizer.mask_token_id, str(engine.encoder.tokenizer.mask_token)
    for i, text in enumerate(texts):
        if mask not in text:
            raise problems.no_mask("inputs" if isinstance(request.inputs, str) else f"inputs[{i}]", mask)

    def task(ids: list[int]) -> EncodeTask:
        return EncodeTask(
            ids,
            kind="fill",
            masks=tuple(i for i, token_id in enumerate(ids) if token_id == mask_id),
            top_k=parameters.top_k,
            targets=targets,
            vocabulary_size=engine.vocabulary_size,
        )

    outputs = await service.run(texts, field="inputs", task=task)
    answers = await service.with_tokenizer(
        lambda: [
            _filled(service, ids, answer_2MK) for ids, answer_2MK in zip(outputs.token_ids, outputs.arrays, strict=True)
        ]
    )
    per_text: list[TextAnswer] = [masks[0] if len(masks) == 1 else masks for masks in answers]
    return per_text[0] if isinstance(request.inputs, str) else per_text


def _target_ids(service: EmbeddingService, parameters: FillMaskParameters) -> tuple[int, ...]:
    """Return one id for each target: that of the word after a space if it is a single token, else that of the word alone."""
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
    """Return the answers of each mask; ``answer_2MK`` has token ids above probabilities."""
    tokenizer = service.engine.encoder.tokenizer
    positions = [i for i, token_id in enumerate(ids) if token_id == tokenizer.mask_token_id]
    answers = []
    for position, token_ids, scores in zip(positions, answer_2MK[0], answer_2MK[1], strict=True):
        mask_answers = []
        for token_id, score in zip(token_ids, scores, strict=True):
            token = int(token_id)
            # Without [CLS] and [SEP].
            text = tokenizer.decode([*ids[1:position], token, *ids[position + 1 : -1]])
            mask_answers.append(
                FillMaskAnswer(score=float(score), token=token, token_str=tokenizer.decode([token]), sequence=text)
            )
        answers.append(mask_answers)
    return answers
