"""From a request to its answer: check, tokenise, queue, cut and scale. No HTTP here, and no text in any error."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from clinical_modernbert.serving import problems
from clinical_modernbert.serving.engine import Engine
from clinical_modernbert.serving.scheduler import QueueFullError, Scheduler
from clinical_modernbert.serving.schemas import (
    EmbeddingInput,
    EmbeddingItem,
    EmbeddingsRequest,
    EmbeddingsResponse,
    Usage,
    encode_vector,
)

Text = str | list[int]
"""A text as it was sent: a string, or its token ids."""


class EmbeddingService:
    """One replica's engine with its scheduler and its tokenising thread."""

    def __init__(self, engine: Engine) -> None:
        limits = engine.recipe.limits
        self.engine = engine
        self.scheduler = Scheduler(
            engine.compute, max_batch_tokens=limits.max_batch_tokens, max_queued_texts=limits.max_queued_texts
        )
        # One thread: a fast tokenizer must not be called from two at once ("Already borrowed"); it spreads lists itself.
        self._tokenizing = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tokenize")

    async def embed(self, request: EmbeddingsRequest) -> EmbeddingsResponse:
        """Return the vectors of one request; raises ``ProblemError``."""
        engine, limits = self.engine, self.engine.recipe.limits
        if not engine.serves(request.model):
            raise problems.unknown_model(engine.model_id)
        if request.dimensions is not None and request.dimensions > engine.encoder.hidden_size:
            raise problems.bad_dimensions(engine.encoder.hidden_size)
        texts, params = _as_list(request.input)
        if not texts:
            raise problems.empty_input("input")
        if len(texts) > limits.max_texts:
            raise problems.too_many_texts(len(texts), limits.max_texts)
        for text, param in zip(texts, params, strict=True):
            self._check(text, param)
        try:
            with self.scheduler.admit(len(texts)):
                token_ids = await self._tokenize(texts)
                cut = [len(ids) > engine.max_tokens for ids in token_ids]
                if any(cut):
                    token_ids = self._cut(token_ids, params, allowed=request.truncate)
                vectors_ND = engine.finish(await self.scheduler.run(token_ids), dimensions=request.dimensions)
        except QueueFullError as full:
            raise problems.queue_full(limits.max_queued_texts, full.retry_after_s) from None
        num_tokens = sum(len(ids) for ids in token_ids)
        return EmbeddingsResponse(
            data=[
                EmbeddingItem(index=i, embedding=encode_vector(v, request.encoding_format), truncated=cut[i] or None)
                for i, v in enumerate(vectors_ND)
            ],
            model=engine.model_id,
            usage=Usage(prompt_tokens=num_tokens, total_tokens=num_tokens),
        )

    def close(self) -> None:
        """Stop both threads."""
        self.scheduler.close()
        self._tokenizing.shutdown(wait=False, cancel_futures=True)

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

    async def _tokenize(self, texts: Sequence[Text]) -> list[list[int]]:
        strings = [text for text in texts if isinstance(text, str)]
        if strings:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._tokenizing, self.engine.encoder.tokenize, strings)
        return [text for text in texts if not isinstance(text, str)]

    def _cut(self, token_ids: list[list[int]], params: Sequence[str], *, allowed: bool) -> list[list[int]]:
        limit = self.engine.max_tokens
        if not allowed:
            ids, param = next(pair for pair in zip(token_ids, params, strict=True) if len(pair[0]) > limit)
            raise problems.too_many_tokens(param, len(ids), limit)
        return [ids if len(ids) <= limit else [*ids[: limit - 1], ids[-1]] for ids in token_ids]


def _as_list(given: EmbeddingInput) -> tuple[Sequence[Text], list[str]]:
    """Return the texts, all strings or all ids, and how errors name each: ``input`` alone or ``input[3]``."""
    if isinstance(given, str):
        return [given], ["input"]
    ids = [item for item in given if isinstance(item, int)]
    if ids:
        return [ids], ["input"]
    texts = [item for item in given if not isinstance(item, int)]
    return texts, [f"input[{i}]" for i in range(len(texts))]
