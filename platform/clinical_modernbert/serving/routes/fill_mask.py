"""``/fill-mask``: the most likely tokens at each mask, in the form of Hugging Face's fill-mask pipeline."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import pairwise
from typing import Annotated, Any

import numpy as np
from fastapi import Response
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter

from clinical_modernbert.serving import problems
from clinical_modernbert.serving.forward import EncodeTask
from clinical_modernbert.serving.routes.rendering import render_lists
from clinical_modernbert.serving.routes.route import Examples
from clinical_modernbert.serving.schemas import Body, Schema, Texts
from clinical_modernbert.serving.service import EmbeddingService, Outputs

EXAMPLES: Examples = {
    "the_likeliest": {"inputs": "warfarin 5 [MASK] daily"},
    "among_targets": {"inputs": "warfarin 5 [MASK] daily", "parameters": {"targets": ["m", "x"]}},
}


class FillMaskParameters(Body):
    """What to answer for each mask."""

    top_k: Annotated[int, Field(ge=1, le=1000)] = 5
    targets: Annotated[list[str], Field(min_length=1, max_length=10_000)] | None = None
    """Choose among these; each must be a single token of the vocabulary."""


class FillMaskRequest(Body):
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


Filled = list[FillMaskAnswer] | list[list[FillMaskAnswer]] | list[list[FillMaskAnswer] | list[list[FillMaskAnswer]]]


_ANSWERS = TypeAdapter(list[FillMaskAnswer])
_ANSWERS_IN_JOB = 256
_TARGETS_IN_JOB = 1000
_MAX_TARGET_CHARACTERS = 256
"""More than any token of a vocabulary has."""


async def fill_mask(service: EmbeddingService, request: FillMaskRequest) -> Response:
    """Return the most likely tokens at each mask.

    The answer is a list of tokens; a text with several masks adds one level of lists, and so does a list of texts.
    """
    engine, parameters = service.engine, request.parameters
    if engine.head != "masked-lm":
        raise problems.no_head("masked-lm", engine.head)
    texts = service.check_texts(request.inputs, "inputs")
    _check_size(service, request, texts)
    targets = await _target_ids(service, parameters)
    mask_id = engine.encoder.tokenizer.mask_token_id

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
    answers = await service.with_tokenizer(_jobs(engine.encoder.tokenizer, outputs))
    lists = iter(await render_lists(service, answers, _render, items_in_job=_ANSWERS_IN_JOB))
    per_text = []
    for answer_2MK in outputs.arrays:
        masks = [next(lists) for _ in range(answer_2MK.shape[1])]
        per_text.append(masks[0] if len(masks) == 1 else f"[{','.join(masks)}]")
    content = per_text[0] if isinstance(request.inputs, str) else f"[{','.join(per_text)}]"
    return Response(content, media_type="application/json")


def _check_size(service: EmbeddingService, request: FillMaskRequest, texts: list[str]) -> None:
    """Refuse texts without a mask, and more or longer guesses than one answer may hold; raises ``ProblemError``."""
    engine, parameters = service.engine, request.parameters
    limits, mask = engine.recipe.limits, str(engine.encoder.tokenizer.mask_token)
    counts = [text.count(mask) for text in texts]
    for i, number in enumerate(counts):
        if not number:
            raise problems.no_mask("inputs" if isinstance(request.inputs, str) else f"inputs[{i}]", mask)
    top_k = min(parameters.top_k, engine.vocabulary_size, len(parameters.targets or ()) or parameters.top_k)
    if sum(counts) * top_k > limits.max_guesses:
        raise problems.too_many_guesses(sum(counts), top_k, limits.max_guesses)
    size = sum(number * len(text) for number, text in zip(counts, texts, strict=True))
    if size * top_k > limits.max_guess_characters:
        fits = f"max_guess_characters={limits.max_guess_characters}: "
        fits += (
            f"set top_k to at most {limits.max_guess_characters // size}" if size <= limits.max_guess_characters else ""
        )
        fits += " or send shorter texts"
        raise problems.answer_too_large("inputs", f"{size * top_k} characters in its sequences", fits)


async def _target_ids(service: EmbeddingService, parameters: FillMaskParameters) -> tuple[int, ...]:
    """Return one id for each target: that of the word after a space if it is a single token, else that of the word alone."""
    tokenizer, targets = service.engine.encoder.tokenizer, parameters.targets or []
    for i, target in enumerate(targets):
        try:
            target.encode()
        except UnicodeEncodeError:
            raise problems.invalid_unicode(f"parameters.targets[{i}]") from None

    def encode(some: list[str]) -> list[list[int]]:
        ids: list[list[int]] = tokenizer(some, add_special_tokens=False)["input_ids"]
        return ids

    short = [target[:_MAX_TARGET_CHARACTERS] for target in targets]
    forms = [form for target in short for form in (f" {target}", target)]
    jobs = (partial(encode, forms[i : i + _TARGETS_IN_JOB]) for i in range(0, len(forms), _TARGETS_IN_JOB))
    encoded = [ids for some in await service.with_tokenizer(jobs) for ids in some]
    found = []
    for i, pair in enumerate(zip(encoded[::2], encoded[1::2], strict=True)):
        single = [ids[0] for ids in pair if len(ids) == 1]
        if not single or len(targets[i]) > _MAX_TARGET_CHARACTERS:
            raise problems.bad_token_ids(
                f"parameters.targets[{i}]", "a target must be a single token of the vocabulary"
            )
        found.append(single[0])
    return tuple(dict.fromkeys(found))


@dataclass(frozen=True)
class MaskedText:
    """A tokenised text, its masks filled one at a time; used in the tokenizer's thread."""

    tokenizer: Any
    ids: list[int]
    """With [CLS] and [SEP], which ``fill`` leaves out."""

    @cached_property
    def positions(self) -> list[int]:
        """Positions of the masks."""
        return [i for i, token_id in enumerate(self.ids) if token_id == self.tokenizer.mask_token_id]

    @cached_property
    def _parts(self) -> list[str] | None:
        """The text before, between and after the masks; None if a token's text depends on the tokens next to it.

        A byte-level tokenizer decodes each token by itself. Others join word pieces, so that parts do not add up to the text.
        """
        backend = self.tokenizer.backend_tokenizer
        if type(backend.decoder).__name__ != "ByteLevel" or type(backend.model).__name__ != "BPE":
            return None
        ends = [0, *self.positions, len(self.ids) - 1]
        return [self.tokenizer.decode(self.ids[a + 1 : b]) for a, b in pairwise(ends)]

    def fill(self, mask: int, token_ids: NDArray[np.float32], scores: NDArray[np.float32]) -> list[FillMaskAnswer]:
        """Return one answer for each token at the mask number ``mask``."""
        words = self.tokenizer.batch_decode([[int(token)] for token in token_ids])
        sequences = self._sequences(mask, [int(token) for token in token_ids], words)
        return [
            FillMaskAnswer(score=float(score), token=int(token), token_str=word, sequence=sequence)
            for token, score, word, sequence in zip(token_ids, scores, words, sequences, strict=True)
        ]

    def _sequences(self, mask: int, token_ids: list[int], words: list[str]) -> list[str]:
        if self._parts is None:
            place = self.positions[mask]
            return [self.tokenizer.decode([*self.ids[1:place], i, *self.ids[place + 1 : -1]]) for i in token_ids]
        other = str(self.tokenizer.mask_token)
        before, after = other.join(self._parts[: mask + 1]), other.join(self._parts[mask + 1 :])
        return [f"{before}{word}{after}" for word in words]


def _jobs(tokenizer: Any, outputs: Outputs) -> Iterator[partial[list[FillMaskAnswer]]]:
    """Yield one job for each mask of each text; ``outputs.arrays`` have token ids above probabilities."""
    for ids, answer_2MK in zip(outputs.token_ids, outputs.arrays, strict=True):
        text = MaskedText(tokenizer, ids)
        for mask in range(answer_2MK.shape[1]):
            yield partial(text.fill, mask, answer_2MK[0, mask], answer_2MK[1, mask])


def _render(answers: list[FillMaskAnswer]) -> str:
    return _ANSWERS.dump_json(answers).decode()
