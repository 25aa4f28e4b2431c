"""From a request to its answer: check, tokenise, queue, cut and scale. No HTTP here, and no text in any error."""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from clinical_modernbert.encoder.windows import average, cut
from clinical_modernbert.encoder.windows import windows as split_windows
from clinical_modernbert.serving import problems
from clinical_modernbert.serving.engine import Engine
from clinical_modernbert.serving.forward import Work
from clinical_modernbert.serving.metrics import TALLY, Record, Tally, drop
from clinical_modernbert.serving.scheduler import QueueFullError, Scheduler
from clinical_modernbert.serving.schemas import (
    EmbeddingInput,
    EmbeddingItem,
    EmbeddingsRequest,
    EmbeddingsResponse,
    Usage,
    encode_vector,
)
from clinical_modernbert.serving.tracing import Trace, no_trace

T = TypeVar("T")

Text = str | list[int]
"""A text as it was sent: a string, or its token ids."""


@dataclass(frozen=True, slots=True)
class Found:
    """The computed pieces of one request's texts."""

    token_ids: list[list[int]]
    """Of each piece, as it was read."""
    answers: list[NDArray[np.float32]]
    """One for each piece."""
    spans: list[tuple[int, int]]
    """Pieces of each text, first and behind the last; one piece unless it was read in windows."""
    cut: list[bool]
    """Texts that were cut."""

    @property
    def num_tokens(self) -> int:
        """Tokens that were computed."""
        return sum(len(ids) for ids in self.token_ids)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each piece."""
        return [len(ids) for ids in self.token_ids]


class EmbeddingService:
    """One replica's engine with its scheduler and its tokenising thread."""

    def __init__(self, engine: Engine, *, record: Record = drop, trace: Trace = no_trace) -> None:
        self.record, self.trace = record, trace
        limits = engine.recipe.limits
        self.engine = engine
        self.scheduler = Scheduler(
            engine.compute,
            max_batch_tokens=limits.max_batch_tokens,
            max_queued_texts=limits.max_queued_texts,
            max_wait_s=limits.request_timeout_s,
            record=record,
            trace=trace,
        )
        # One thread: a fast tokenizer must not be called from two at once ("Already borrowed"); it spreads lists itself.
        self._tokenizing = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tokenize")
        self._rendering = ThreadPoolExecutor(max_workers=1, thread_name_prefix="render")

    async def embed(self, request: EmbeddingsRequest) -> bytes:
        """Return the answer to ``/v1/embeddings`` as JSON; raises ``ProblemError``."""
        engine = self.engine
        if not engine.serves(request.model):
            raise problems.unknown_model(engine.model_id)
        self.check_dimensions(request.dimensions)
        found = await self.run(
            request.input, field="input", truncate=request.truncate, windows=request.windows, work=Work
        )
        merged_ND = np.stack([average(found.answers[a:b], found.lengths[a:b]) for a, b in found.spans])
        vectors_ND = engine.finish(merged_ND, dimensions=request.dimensions)

        def render() -> bytes:
            usage = Usage(prompt_tokens=found.num_tokens, total_tokens=found.num_tokens)
            frame = EmbeddingsResponse(data=[], model=engine.model_id, usage=usage).model_dump_json()
            items = (
                EmbeddingItem(
                    index=i,
                    embedding=encode_vector(vector_D, request.encoding_format),
                    truncated=found.cut[i] or None,
                    windows=b - a if b - a > 1 else None,
                ).model_dump_json(exclude_none=True)
                for i, (vector_D, (a, b)) in enumerate(zip(vectors_ND, found.spans, strict=True))
            )
            return frame.replace('"data":[]', f'"data":[{",".join(items)}]', 1).encode()

        return await self.aside(render)

    def check_dimensions(self, dimensions: int | None) -> None:
        """Refuse more numbers than a vector has."""
        if dimensions is not None and dimensions > self.engine.encoder.hidden_size:
            raise problems.bad_dimensions(self.engine.encoder.hidden_size)

    async def run(
        self,
        given: EmbeddingInput,
        *,
        field: str,
        work: Callable[[list[int]], Work],
        truncate: bool = False,
        windows: bool = False,
        cut_left: bool = False,
    ) -> Found:
        """Check, tokenise, queue and compute the texts of one request; raises ``ProblemError``."""
        limits = self.engine.recipe.limits
        texts, params = _as_list(given, field)
        if not texts:
            raise problems.empty_input(field)
        if len(texts) > limits.max_texts:
            raise problems.too_many_texts(field, len(texts), limits.max_texts)
        for text, param in zip(texts, params, strict=True):
            self._check(text, param)
        tally = TALLY.get(None) or Tally()
        tally.num_texts = len(texts)
        try:
            with ExitStack() as places:
                places.enter_context(self.scheduler.admit(len(texts)))
                token_ids = await self.tokenize(texts)
                pieces = [
                    self._fit(ids, param, truncate=truncate, windows=windows, cut_left=cut_left)
                    for ids, param in zip(token_ids, params, strict=True)
                ]
                flat = [piece for group in pieces for piece in group]
                if len(flat) > len(texts):
                    places.enter_context(self.scheduler.admit(len(flat) - len(texts)))
                tally.num_tokens = sum(len(ids) for ids in flat)
                with self.trace("encode") as note:
                    note("texts", len(texts))
                    note("tokens", tally.num_tokens)
                    answers = await self.scheduler.run_each([work(ids) for ids in flat])
        except QueueFullError as full:
            if full.too_slow:
                raise problems.queue_too_slow(limits.request_timeout_s, full.retry_after_s) from None
            raise problems.queue_full(limits.max_queued_texts, full.retry_after_s) from None
        ends = [sum(len(group) for group in pieces[: i + 1]) for i in range(len(pieces))]
        return Found(
            token_ids=flat,
            answers=answers,
            spans=[(end - len(group), end) for end, group in zip(ends, pieces, strict=True)],
            cut=[len(group) == 1 and len(group[0]) < len(ids) for group, ids in zip(pieces, token_ids, strict=True)],
        )

    async def aside(self, render: Callable[[], T]) -> T:
        """Turn an answer into bytes in a thread: a large one must not hold up every other client."""
        with self.trace("render"):
            return await asyncio.get_running_loop().run_in_executor(self._rendering, render)

    def close(self) -> None:
        """Stop the threads."""
        self.scheduler.close()
        self._tokenizing.shutdown(wait=False, cancel_futures=True)
        self._rendering.shutdown(wait=False, cancel_futures=True)

    def _check(self, text: Text, param: str) -> None:
        limits = self.engine.recipe.limits
        if not text:
            raise problems.empty_input(param)
        if isinstance(text, str):
            if len(text) > limits.max_characters:
                raise problems.too_many_characters(param, len(text), limits.max_characters)
            try:
                text.encode()
            except UnicodeEncodeError:
                raise problems.invalid_unicode(param) from None
            return
        tokenizer = self.engine.encoder.tokenizer
        if min(text) < 0 or max(text) >= self.engine.vocabulary_size:
            raise problems.bad_token_ids(param, f"ids must be from 0 to {self.engine.vocabulary_size - 1}")
        # Ids of another model's tokenizer would give vectors that look right and mean nothing.
        if text[0] != tokenizer.cls_token_id or text[-1] != tokenizer.sep_token_id:
            ends = f"begin with [CLS]={tokenizer.cls_token_id} and end with [SEP]={tokenizer.sep_token_id}"
            raise problems.bad_token_ids(param, f"ids must be those of this model's own tokenizer: they {ends}")

    async def tokenize(self, texts: Sequence[Text]) -> list[list[int]]:
        """Return the token ids of each text, strings tokenised in the tokenising thread."""
        strings = [text for text in texts if isinstance(text, str)]
        if strings:
            return await self.with_tokenizer(lambda: self.engine.encoder.tokenize(strings))
        return [text for text in texts if not isinstance(text, str)]

    async def with_tokenizer(self, call: Callable[[], T]) -> T:
        """Run ``call`` in the one thread that may touch the tokenizer."""
        started = time.perf_counter()
        with self.trace("tokenize"):
            outcome = await asyncio.get_running_loop().run_in_executor(self._tokenizing, call)
        self.record("cm_tokenize_seconds", time.perf_counter() - started, {})
        return outcome

    def check_texts(self, given: str | list[str], field: str) -> list[str]:
        """Return the strings of a request as a list, within the limits; raises ``ProblemError``."""
        texts, limit = [given] if isinstance(given, str) else given, self.engine.recipe.limits.max_texts
        if not texts:
            raise problems.empty_input(field)
        if len(texts) > limit:
            raise problems.too_many_texts(field, len(texts), limit)
        for i, text in enumerate(texts):
            self._check(text, field if isinstance(given, str) else f"{field}[{i}]")
        return texts

    def _fit(self, ids: list[int], param: str, *, truncate: bool, windows: bool, cut_left: bool) -> list[list[int]]:
        """Return the text as it is read: whole, cut to the longest text, or in windows of at most that length."""
        limit = self.engine.max_tokens
        if len(ids) <= limit:
            return [ids]
        if windows:
            return split_windows(ids, limit)
        if not truncate:
            raise problems.too_many_tokens(param, len(ids), limit)
        return [cut(ids, limit, left=cut_left)]


def _as_list(given: EmbeddingInput, field: str) -> tuple[Sequence[Text], list[str]]:
    """Return the texts, all strings or all ids, and how errors name each: ``input`` alone or ``input[3]``."""
    if isinstance(given, str):
        return [given], [field]
    ids = [item for item in given if isinstance(item, int)]
    if ids:
        return [ids], [field]
    texts = [item for item in given if not isinstance(item, int)]
    return texts, [f"{field}[{i}]" for i in range(len(texts))]
