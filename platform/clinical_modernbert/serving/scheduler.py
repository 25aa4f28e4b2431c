"""One scheduler a replica: batches by a budget of real tokens, chosen by length, and no one waits for ever.

Texts arrive already tokenised. A batch always holds the oldest waiting text; the rest are those nearest to it in length, since
packed rows of like length need the fewest attention buckets and a short text need not wait out a long one's pass. A text that
was overtaken ``max_overtakes`` times goes before all newer ones. There is no wait timer: while a batch computes, the next
one gathers by itself. One thread computes; the event loop never does. It does not know HTTP, Ray or the model.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clinical_modernbert.serving.metrics import Record, drop
from clinical_modernbert.serving.tracing import Trace, no_trace

Compute = Callable[[list[Any]], Sequence[NDArray[np.float32]]]
"""Tokenised texts to one array each; a text is anything whose ``len`` is its number of tokens."""

_MAX_RETRY_AFTER_S = 30
_logger = logging.getLogger(__name__)


class QueueFullError(Exception):
    """A bound of the queue is reached; ``retry_after_s`` is how long the present queue takes."""

    def __init__(self, retry_after_s: int, *, too_slow: bool = False) -> None:
        super().__init__(f"retry after {retry_after_s} s")
        self.retry_after_s = retry_after_s
        self.too_slow = too_slow
        """Whether the bound is that on the time of waiting, not that on the texts."""


@dataclass(slots=True)
class _Job:
    """One request: its vectors as they come in, and who waits for them."""

    done: asyncio.Future[list[NDArray[np.float32]]]
    vectors: list[NDArray[np.float32]]
    num_open: int
    num_queued_tokens: int = 0
    """Tokens of its texts that are in no batch yet."""


@dataclass(slots=True)
class Waiting:
    """One text in the queue."""

    item: Sized
    job: _Job = field(repr=False)
    position: int
    """Position of the text in its request."""
    since: float
    """When it joined, in seconds of the monotonic clock."""
    num_overtakes: int = 0
    """Batches that took a newer text and left this one."""

    @property
    def num_tokens(self) -> int:
        """Length of the text."""
        return len(self.item)


def choose_batch(
    lengths: Sequence[int], num_overtakes: Sequence[int], *, max_batch_tokens: int, max_overtakes: int
) -> list[int]:
    """Return the ascending positions of the next batch, given the waiting texts in order of arrival.

    The first is always in, even where it alone exceeds the budget. Then come the overdue ones by age; where one of them does
    not fit, the batch ends, so that nothing overtakes it again. Then those nearest to the first in length.
    """
    taken, used = [0], lengths[0]
    overdue = [i for i in range(1, len(lengths)) if num_overtakes[i] >= max_overtakes]
    for i in overdue:
        if used + lengths[i] > max_batch_tokens:
            return sorted(taken)
        taken.append(i)
        used += lengths[i]
    rest = sorted(
        (i for i in range(1, len(lengths)) if num_overtakes[i] < max_overtakes),
        key=lambda i: (abs(lengths[i] - lengths[0]), i),
    )
    for i in rest:
        if used + lengths[i] <= max_batch_tokens:
            taken.append(i)
            used += lengths[i]
    return sorted(taken)


class Scheduler:
    """Queue, batches and the compute thread of one replica; every method runs on one event loop."""

    def __init__(
        self,
        compute: Compute,
        *,
        max_batch_tokens: int,
        max_queued_texts: int,
        max_overtakes: int = 4,
        max_wait_s: float = math.inf,
        record: Record = drop,
        trace: Trace = no_trace,
    ) -> None:
        self._record, self._trace = record, trace
        self._compute = compute
        self._max_batch_tokens = max_batch_tokens
        self._max_queued_texts = max_queued_texts
        self._max_overtakes = max_overtakes
        self._max_wait_s = max_wait_s
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="encode")
        self._waiting: list[Waiting] = []
        self._pump: asyncio.Task[None] | None = None
        self._num_admitted = 0
        self._num_computing = 0
        self._num_computing_tokens = 0
        self._num_queued_tokens = 0
        self._tokens_per_s: float | None = None

    @property
    def num_queued(self) -> int:
        """Texts that were admitted and are not yet computing, those being tokenised included."""
        return max(0, self._num_admitted - self._num_computing)

    @contextmanager
    def admit(self, num_texts: int) -> Iterator[None]:
        """Hold places for a request's texts, from before they are tokenised until it is answered, all of them or none.

        Raises ``QueueFullError``.
        """
        if self.num_queued + num_texts > self._max_queued_texts:
            raise QueueFullError(self._retry_after_s())
        self._check_wait()
        self._num_admitted += num_texts
        try:
            yield
        finally:
            self._num_admitted -= num_texts

    async def run(self, items: Sequence[Sized]) -> NDArray[np.float32]:
        """Return the vectors [N, D] of one request's texts, in order."""
        return np.stack(await self.run_each(items))

    async def run_each(self, items: Sequence[Sized]) -> list[NDArray[np.float32]]:
        """Return one array for each of a request's texts, in order.

        A caller that is cancelled, as a client's disconnect does, takes its waiting texts with it. Raises ``QueueFullError``
        where they would wait too long: of requests that come together, all were admitted before one of them was tokenised.
        """
        if not items:
            raise ValueError("a request must have at least one text")
        num_tokens = sum(len(item) for item in items)
        self._check_wait(num_tokens)
        loop, now = asyncio.get_running_loop(), time.monotonic()
        empty: NDArray[np.float32] = np.empty(0, dtype=np.float32)
        job = _Job(done=loop.create_future(), vectors=[empty] * len(items), num_open=len(items))
        job.num_queued_tokens = num_tokens
        self._num_queued_tokens += num_tokens
        self._waiting.extend(Waiting(item=item, job=job, position=i, since=now) for i, item in enumerate(items))
        if self._pump is None or self._pump.done():
            # A context of its own: a batch belongs to no single request, and its spans to no single trace.
            self._pump = loop.create_task(self._run_batches(), context=Context())
        try:
            return await job.done
        finally:
            # What a client that left, or a failed batch, has still in the queue is never computed.
            self._num_queued_tokens -= job.num_queued_tokens
            job.num_queued_tokens = 0

    def close(self) -> None:
        """Stop the compute thread; waiting requests are cancelled."""
        for waiting in self._waiting:
            waiting.job.done.cancel()
        self._waiting.clear()
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def _run_batches(self) -> None:
        loop = asyncio.get_running_loop()
        while batch := self._next_batch():
            num_tokens = sum(waiting.num_tokens for waiting in batch)
            self._num_computing, self._num_computing_tokens = len(batch), num_tokens
            started = time.perf_counter()
            self._record("cm_queued_texts", self.num_queued, {})
            for waiting in batch:
                self._record("cm_queue_seconds", time.monotonic() - waiting.since, {})
            with self._trace("batch") as note:
                note("texts", len(batch))
                note("tokens", num_tokens)
                outcome = loop.run_in_executor(self._executor, self._vectors, [waiting.item for waiting in batch])
                await asyncio.wait([outcome])
            self._num_computing = self._num_computing_tokens = 0
            error = outcome.exception()
            if error is None:
                seconds = time.perf_counter() - started
                self._note_speed(num_tokens, seconds)
                self._record("cm_compute_seconds", seconds, {})
                self._record("cm_batch_tokens", num_tokens, {})
                self._record("cm_batch_fill", num_tokens / self._max_batch_tokens, {})
                _deliver(batch, outcome.result())
            else:
                # By class alone: a library's message may quote what it was given.
                _logger.error("a batch of %d texts failed with %s", len(batch), type(error).__name__)
                _fail(batch, error)

    def _vectors(self, items: list[Sized]) -> Sequence[NDArray[np.float32]]:
        vectors = self._compute(items)
        assert len(vectors) == len(items), (len(vectors), len(items))
        return vectors

    def _next_batch(self) -> list[Waiting]:
        # done also means cancelled: the client left, or another text of the request failed.
        alive = [waiting for waiting in self._waiting if not waiting.job.done.done()]
        if len(alive) < len(self._waiting):
            self._record("cm_dropped_texts", len(self._waiting) - len(alive), {})
        if not alive:
            self._waiting = []
            return []
        taken = choose_batch(
            [waiting.num_tokens for waiting in alive],
            [waiting.num_overtakes for waiting in alive],
            max_batch_tokens=self._max_batch_tokens,
            max_overtakes=self._max_overtakes,
        )
        for i in set(range(taken[-1])) - set(taken):
            alive[i].num_overtakes += 1
        for i in taken:
            alive[i].job.num_queued_tokens -= alive[i].num_tokens
            self._num_queued_tokens -= alive[i].num_tokens
        chosen = set(taken)
        self._waiting = [waiting for i, waiting in enumerate(alive) if i not in chosen]
        return [alive[i] for i in taken]

    def _check_wait(self, num_tokens: int = 0) -> None:
        """Refuse what would be answered too late; never what has nothing before it, which is as soon as it can be."""
        before = self._num_queued_tokens + self._num_computing_tokens
        if before and self._tokens_per_s and (before + num_tokens) / self._tokens_per_s > self._max_wait_s:
            raise QueueFullError(self._retry_after_s(), too_slow=True)

    def _note_speed(self, num_tokens: int, seconds: float) -> None:
        # A small batch takes hardly less time than a full one: its speed is not that at which a queue shrinks.
        if 2 * num_tokens < self._max_batch_tokens:
            return
        now = num_tokens / max(seconds, 1e-6)
        self._tokens_per_s = now if self._tokens_per_s is None else 0.8 * self._tokens_per_s + 0.2 * now

    def _retry_after_s(self) -> int:
        if self._tokens_per_s is None:
            return 1
        before = self._num_queued_tokens + self._num_computing_tokens
        return min(max(math.ceil(before / self._tokens_per_s), 1), _MAX_RETRY_AFTER_S)


def _deliver(batch: list[Waiting], vectors: Sequence[NDArray[np.float32]]) -> None:
    for waiting, vector_D in zip(batch, vectors, strict=True):
        job = waiting.job
        job.vectors[waiting.position] = vector_D
        job.num_open -= 1
        if job.num_open == 0 and not job.done.done():
            job.done.set_result(job.vectors)


def _fail(batch: list[Waiting], error: BaseException) -> None:
    for waiting in batch:
        if not waiting.job.done.done():
            waiting.job.done.set_exception(error)
