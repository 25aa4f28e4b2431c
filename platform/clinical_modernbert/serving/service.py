"""From the texts of a request to the model's outputs: check, tokenise, cut, queue. No HTTP here, and no text in any error."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from clinical_modernbert.encoder.windows import cut
from clinical_modernbert.encoder.windows import windows as split_windows
from clinical_modernbert.serving import problems
from clinical_modernbert.serving.engine import Engine
from clinical_modernbert.serving.forward import EncodeTask
from clinical_modernbert.serving.metrics import TALLY, Record, Tally, drop, of_model
from clinical_modernbert.serving.scheduler import QueueFullError, QueueLimits, Scheduler, TooLongError
from clinical_modernbert.serving.schemas import EmbeddingInput
from clinical_modernbert.serving.tracing import Trace, no_trace
from clinical_modernbert.serving.worker import Worker

T = TypeVar("T")

_CHARACTERS_IN_JOB = 32_768  # about 10 ms: texts of other requests wait for no longer

Text = str | list[int]
"""A text as the client sent it: a string, or its token ids."""


@dataclass(frozen=True, slots=True)
class SomeTexts:
    """Texts of a request with how errors name each; ``max_texts`` was checked where they were collected."""

    texts: Sequence[Text]
    params: list[str]


@dataclass(frozen=True, slots=True)
class Outputs:
    """What the model computed for the texts of one request.

    A text is one sequence of tokens, or several if it was read in windows.
    """

    token_ids: list[list[int]]
    """Of each sequence, as the model read it."""
    arrays: list[NDArray[np.float32]]
    """One for each sequence; its shape depends on the task."""
    ranges: list[tuple[int, int]]
    """Sequences of each text: the first, and one past the last."""
    truncated: list[bool]
    """Whether each text was cut."""

    @property
    def num_tokens(self) -> int:
        """Tokens that the model read."""
        return sum(self.lengths)

    @property
    def num_truncated(self) -> int:
        """Texts that were cut."""
        return sum(self.truncated)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each sequence."""
        return [len(ids) for ids in self.token_ids]


class EmbeddingService:
    """One model's engine with its scheduler and its tokenising thread; ``thread`` computes, by default one of its own."""

    def __init__(
        self,
        engine: Engine,
        *,
        record: Record = drop,
        trace: Trace = no_trace,
        thread: ThreadPoolExecutor | None = None,
    ) -> None:
        self.record, self.trace = record, trace
        self._record = of_model(record, engine.model_id)
        limits = engine.recipe.limits
        self.engine = engine
        self.scheduler = Scheduler(
            engine.compute,
            QueueLimits(
                max_batch_tokens=engine.max_batch_tokens,
                max_queued_texts=limits.max_queued_texts,
                max_texts_of_owner=limits.max_queued_texts_of_key or limits.max_queued_texts // 2,
                max_wait_s=limits.request_timeout_s,
            ),
            tokens_per_s=engine.tokens_per_s,
            record=self._record,
            trace=trace,
            thread=thread,
        )
        # One thread: a fast tokenizer must not be called from two threads ("Already borrowed"); it parallelises lists itself.
        self._tokenizing, self._rendering = Worker("tokenize"), Worker("render")

    def check_threads(self) -> None:
        """Raise ``ProblemError`` (503) if a thread has run one job for too long: the model's, the tokenizer's, large answers'."""
        threads = (self.scheduler.seconds_in_batch, self._tokenizing.seconds_in_job, self._rendering.seconds_in_job)
        seconds = max(threads)
        if seconds > self.engine.recipe.limits.stalled_after_s:
            raise problems.stalled(seconds)

    def check_dimensions(self, dimensions: int | None) -> None:
        """Refuse a width that exceeds the model's vectors; raises ``ProblemError``."""
        if dimensions is not None and dimensions > self.engine.encoder.hidden_size:
            raise problems.bad_dimensions(self.engine.encoder.hidden_size)

    def prompt(self, name: str | None) -> str:
        """Return the model's prompt ``name``, or its default prompt; raises ``ProblemError``."""
        prompts = self.engine.prompts
        if name is not None and name not in prompts.texts:
            raise problems.unknown_prompt(sorted(prompts.texts))
        return prompts.default if name is None else prompts.texts[name]

    def with_prompt(
        self, inputs: EmbeddingInput | SomeTexts, name: str | None, *, field: str
    ) -> EmbeddingInput | SomeTexts:
        """Return the texts after their prompt; raises ``ProblemError``.

        An empty text stays empty, and is refused as such. Token ids are taken as the client made them.
        """
        prompt = self.prompt(name)
        if not prompt:
            return inputs
        if isinstance(inputs, str):
            return f"{prompt}{inputs}" if inputs else inputs
        given = inputs.texts if isinstance(inputs, SomeTexts) else inputs
        texts = [f"{prompt}{text}" if text else text for text in given if isinstance(text, str)]
        if len(texts) == len(given):
            return SomeTexts(texts, inputs.params) if isinstance(inputs, SomeTexts) else texts
        if name is not None:
            raise problems.prompt_before_ids(field)
        return inputs

    def without_empty(self, inputs: EmbeddingInput, *, field: str) -> tuple[SomeTexts, list[int | None]]:
        """Return the texts that have one, and for each text of the request its place among them, None for an empty one.

        A text of spaces is empty here, as in a bulk job. Raises ``ProblemError``.
        """
        texts, params = as_list(inputs, field)
        limit = self.engine.recipe.limits.max_texts
        if not texts:
            raise problems.empty_input(field)
        if len(texts) > limit:
            raise problems.too_many_texts(field, len(texts), limit)
        filled = [i for i, text in enumerate(texts) if (text.strip() if isinstance(text, str) else text)]
        places = {i: place for place, i in enumerate(filled)}
        some = SomeTexts([texts[i] for i in filled], [params[i] for i in filled])
        return some, [places.get(i) for i in range(len(texts))]

    async def run(
        self,
        inputs: EmbeddingInput | SomeTexts,
        *,
        field: str,
        task: Callable[[list[int]], EncodeTask],
        truncate: bool = False,
        windows: bool = False,
        cut_left: bool = False,
        check_tokens: Callable[[int], None] = lambda _: None,
    ) -> Outputs:
        """Check, tokenise, queue and compute the texts of one request; raises ``ProblemError``.

        ``task`` says what to compute for a sequence of token ids. ``field`` is the body's name for ``inputs``, for messages.
        ``check_tokens`` gets the number of tokens before they are computed, and may refuse it.
        """
        limits = self.engine.recipe.limits
        texts, params = (inputs.texts, inputs.params) if isinstance(inputs, SomeTexts) else as_list(inputs, field)
        if not texts:
            raise problems.empty_input(field)
        if len(texts) > limits.max_texts and not isinstance(inputs, SomeTexts):
            raise problems.too_many_texts(field, len(texts), limits.max_texts)
        self._check(texts, params)
        self._check_places(len(texts), field)
        tally = TALLY.get(None) or Tally()
        tally.num_texts = len(texts)
        try:
            with ExitStack() as places:
                places.enter_context(self.scheduler.admit(len(texts), owner=tally.key))
                token_ids = await self.tokenize(texts)
                sequences_of_text = [
                    self._fit(ids, param, truncate=truncate, windows=windows, cut_left=cut_left)
                    for ids, param in zip(token_ids, params, strict=True)
                ]
                sequences = [sequence for group in sequences_of_text for sequence in group]
                # Windows need places too: a text of ten windows is ten entries of the queue.
                if len(sequences) > len(texts):
                    self._check_places(len(sequences), field)
                    more = len(sequences) - len(texts)
                    places.enter_context(self.scheduler.admit(more, owner=tally.key, num_own=len(texts)))
                num_tokens = sum(len(ids) for ids in sequences)
                check_tokens(num_tokens)
                tally.num_tokens = num_tokens
                with self.trace("encode") as note:
                    note("texts", len(texts))
                    note("tokens", tally.num_tokens)
                    arrays = await self.scheduler.run([task(ids) for ids in sequences], owner=tally.key)
        except (TooLongError, QueueFullError) as error:
            tally.num_tokens = 0  # none was computed: a key does not pay for what it is refused
            raise self._refusal(error, field) from None
        stops = list(accumulate(len(group) for group in sequences_of_text))
        return Outputs(
            token_ids=sequences,
            arrays=arrays,
            ranges=list(pairwise([0, *stops])),
            truncated=[
                len(group) == 1 and len(group[0]) < len(ids)
                for group, ids in zip(sequences_of_text, token_ids, strict=True)
            ],
        )

    def check_fits(self, num_texts: int, num_tokens: int, *, field: str) -> None:
        """Refuse texts that take too long even on an idle replica, before they are made; raises ``ProblemError``."""
        try:
            self.scheduler.check_fits(num_texts, num_tokens)
        except TooLongError as error:
            raise self._refusal(error, field) from None

    async def aside(self, jobs: Iterable[Callable[[], T]]) -> list[T]:
        """Run short jobs in the thread that turns large answers into text, one after another."""
        with self.trace("render"):
            return [await self._rendering.run(job) for job in jobs]

    def close(self) -> None:
        """Stop the threads."""
        self.scheduler.close()
        self._tokenizing.close()
        self._rendering.close()

    def _refusal(self, error: TooLongError | QueueFullError, field: str) -> problems.ProblemError:
        limits = self.engine.recipe.limits
        if isinstance(error, TooLongError):
            return problems.request_too_long(field, error.num_tokens, error.fitting_tokens)
        if error.too_slow:
            return problems.queue_too_slow(limits.request_timeout_s, error.retry_after_s)
        return problems.queue_full(limits.max_queued_texts, error.retry_after_s)

    def _check_places(self, number: int, field: str) -> None:
        """Refuse more texts and windows than the queue has places: they would be refused however often they are sent."""
        limit = self.engine.recipe.limits.max_queued_texts
        if number > limit:
            raise problems.too_many_places(field, number, limit)

    def _check(self, texts: Sequence[Text], params: Sequence[str]) -> None:
        empty = [param for text, param in zip(texts, params, strict=True) if not text]
        if empty:
            raise problems.empty_input(*empty)
        for text, param in zip(texts, params, strict=True):
            self._check_one(text, param)

    def _check_one(self, text: Text, param: str) -> None:
        limits = self.engine.recipe.limits
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
            raise problems.other_tokenizer(param, f"ids must be from 0 to {self.engine.vocabulary_size - 1}")
        # Ids of another model's tokenizer would give vectors that look right and are meaningless.
        if text[0] != tokenizer.cls_token_id or text[-1] != tokenizer.sep_token_id:
            ends = f"begin with [CLS]={tokenizer.cls_token_id} and end with [SEP]={tokenizer.sep_token_id}"
            raise problems.other_tokenizer(param, f"ids must be those of this model's own tokenizer: they {ends}")

    async def tokenize(self, texts: Sequence[Text]) -> list[list[int]]:
        """Return the token ids of each text, strings tokenised in the tokenising thread."""
        strings = [text for text in texts if isinstance(text, str)]
        if strings:
            return await self.tokenize_in_slices(strings, self.engine.encoder.tokenize)
        return [text for text in texts if not isinstance(text, str)]

    async def tokenize_in_slices(
        self, texts: Sequence[str], call: Callable[[list[str]], list[T]], *, more_characters: int = 0
    ) -> list[T]:
        """Return what ``call`` returns for each text, called with some of them at a time in the tokenizer's thread.

        ``more_characters`` is what ``call`` adds to each text.
        """
        started = time.perf_counter()
        slices = await self.with_tokenizer(partial(call, some) for some in _slices(texts, more_characters))
        self._record("cm_tokenize_seconds", time.perf_counter() - started, {})
        return [outcome for outcomes in slices for outcome in outcomes]

    async def with_tokenizer(self, jobs: Iterable[Callable[[], T]]) -> list[T]:
        """Run short jobs in the one thread that may touch the tokenizer, one after another."""
        with self.trace("tokenize"):
            return [await self._tokenizing.run(job) for job in jobs]

    def check_texts(self, inputs: str | list[str], field: str) -> list[str]:
        """Return the strings of a request as a list, within the limits; raises ``ProblemError``."""
        texts, limit = [inputs] if isinstance(inputs, str) else inputs, self.engine.recipe.limits.max_texts
        if not texts:
            raise problems.empty_input(field)
        if len(texts) > limit:
            raise problems.too_many_texts(field, len(texts), limit)
        self._check(texts, [field] if isinstance(inputs, str) else [f"{field}[{i}]" for i in range(len(texts))])
        return texts

    def _fit(self, ids: list[int], param: str, *, truncate: bool, windows: bool, cut_left: bool) -> list[list[int]]:
        """Return the sequences of one text: the text itself, cut to the model's limit, or in windows within that limit."""
        limit = self.engine.max_tokens
        if len(ids) <= limit:
            return [ids]
        if windows:
            return split_windows(ids, limit)
        if not truncate:
            raise problems.too_many_tokens(param, len(ids), limit)
        return [cut(ids, limit, left=cut_left)]


def _slices(texts: Sequence[str], more_characters: int) -> Iterator[list[str]]:
    """Yield the texts in order, about ``_CHARACTERS_IN_JOB`` characters at a time, with those that are added to each."""
    some: list[str] = []
    size = 0
    for text in texts:
        length = len(text) + more_characters
        if some and size + length > _CHARACTERS_IN_JOB:
            yield some
            some, size = [], 0
        some.append(text)
        size += length
    if some:
        yield some


def as_list(inputs: EmbeddingInput, field: str) -> tuple[Sequence[Text], list[str]]:
    """Return the texts, all strings or all ids, and how errors name each: ``input`` alone or ``input[3]``."""
    if isinstance(inputs, str):
        return [inputs], [field]
    ids = [item for item in inputs if isinstance(item, int)]
    if ids:
        return [ids], [field]
    texts = [item for item in inputs if not isinstance(item, int)]
    return texts, [f"{field}[{i}]" for i in range(len(texts))]
