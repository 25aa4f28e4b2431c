"""The scheduler of one model of a replica: a queue of tokenised texts, batches within a token budget, one compute thread.

A batch always holds the waiting text whose turn it is (``fairness``: the oldest, where there are no keys); ``batching`` chooses
the others. There is no timer: while a batch computes, the
next one accumulates. The event loop never computes. The module knows neither HTTP nor Ray nor the model.

The models of a replica share the compute thread: their batches take turns, and the measured speed of each counts the wait for
the others' batches.

What one tick does (``_run_batches``), with a budget of 10 tokens; ``a2`` is the second text of request a:

    queue     a1=6 a2=6 c1=2 b1=3    the client of request c has left
    drop      c1                     its future is cancelled: never computed, counted as dropped
    choose    a1, b1                 9 tokens; b1 overtakes a2
    compute   in the thread          new requests join the queue meanwhile
    deliver   a1, b1                 b is answered; a waits for a2, the oldest text of the next tick
"""

import asyncio
import logging
import math
import time
from bisect import insort
from collections import Counter
from collections.abc import Callable, Iterator, Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import Context
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clinical_modernbert.serving.batching import choose_batch
from clinical_modernbert.serving.fairness import Owner, QueuedTokens, Turns
from clinical_modernbert.serving.metrics import Record, drop
from clinical_modernbert.serving.speed import SpeedEstimate
from clinical_modernbert.serving.tracing import Trace, no_trace

Compute = Callable[[list[Any]], Sequence[NDArray[np.float32]]]
"""Tokenised texts to one array each; a text is anything whose ``len`` is its number of tokens."""

_MAX_RETRY_AFTER_S = 30
_logger = logging.getLogger(__name__)


class QueueFullError(Exception):
    """A limit of the queue is reached; ``retry_after_s`` is how long the current queue takes."""

    def __init__(self, retry_after_s: int, *, too_slow: bool = False) -> None:
        super().__init__(f"retry after {retry_after_s} s")
        self.retry_after_s = retry_after_s
        self.too_slow = too_slow
        """Whether the limit on waiting time is reached, not the limit on texts."""


class TooLongError(Exception):
    """A request that could not be computed in time even alone; ``fitting_tokens`` could."""

    def __init__(self, num_tokens: int, fitting_tokens: int) -> None:
        super().__init__(f"{num_tokens} tokens, {fitting_tokens} fit")
        self.num_tokens, self.fitting_tokens = num_tokens, fitting_tokens


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """Limits of one replica's queue and batches."""

    max_batch_tokens: int
    max_queued_texts: int
    max_texts_of_owner: int | None = None
    """Texts of one key, waiting and computing; None: as many as the queue holds."""
    max_overtakes: int = 4
    max_wait_s: float = math.inf


@dataclass(slots=True)
class _Request:
    """One request: its arrays as they are computed, and the future that its caller awaits."""

    done: asyncio.Future[list[NDArray[np.float32]]]
    arrays: list[NDArray[np.float32]]
    num_missing: int
    """Arrays that are not computed yet."""
    num_queued_tokens: int
    """Tokens of its texts that are in no batch yet."""
    owner: Owner


@dataclass(slots=True)
class _Waiting:
    """One text in the queue."""

    item: Sized
    request: _Request
    position: int
    """Position of the text in its request."""
    since: float
    """When it joined, in seconds of the monotonic clock."""
    turn: float
    num_overtakes: int = 0
    """Batches that took a newer text and left this one."""

    @property
    def num_tokens(self) -> int:
        """Length of the text."""
        return len(self.item)


def compute_thread() -> ThreadPoolExecutor:
    """Return the one thread that computes, for the schedulers of a replica's models."""
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="encode")


class Scheduler:
    """Queue and batches of one model; every method runs on one event loop."""

    def __init__(
        self,
        compute: Compute,
        limits: QueueLimits,
        *,
        tokens_per_s: float | None = None,
        record: Record = drop,
        trace: Trace = no_trace,
        thread: ThreadPoolExecutor | None = None,
    ) -> None:
        self._compute, self._limits = compute, limits
        self._record, self._trace = record, trace
        self._executor = thread or compute_thread()
        self._waiting: list[_Waiting] = []
        self._pump: asyncio.Task[None] | None = None
        self._num_admitted = 0
        self._admitted_of: Counter[Owner] = Counter()
        self._turns, self._queued = Turns(), QueuedTokens()
        self._num_computing = 0
        self._num_computing_tokens = 0
        self._batch_started: float | None = None
        self.speed = SpeedEstimate(min_tokens=limits.max_batch_tokens / 2, tokens_per_s=tokens_per_s)

    @property
    def num_queued(self) -> int:
        """Texts that were admitted and are not computing yet, including those being tokenised."""
        return max(0, self._num_admitted - self._num_computing)

    @property
    def num_tokens_ahead(self) -> int:
        """Tokens that are not computed yet: those in the queue and those of the current batch."""
        return self._queued.total + self._num_computing_tokens

    @property
    def seconds_in_batch(self) -> float:
        """How long the current batch has computed; 0 if none does."""
        started = self._batch_started
        return 0.0 if started is None else time.perf_counter() - started

    def check_fits(self, num_texts: int, num_tokens: int) -> None:
        """Refuse texts of one request that would take too long with nothing ahead; raises ``TooLongError``."""
        fitting = None if math.isinf(self._limits.max_wait_s) else self.speed.tokens_in(self._limits.max_wait_s)
        # A single text cannot be divided: it is tried, as the length limit allows it.
        if num_texts > 1 and fitting is not None and num_tokens > fitting:
            raise TooLongError(num_tokens, fitting)

    @contextmanager
    def admit(self, num_texts: int, *, owner: Owner = None, num_own: int = 0) -> Iterator[None]:
        """Reserve places for all texts of a request, from before they are tokenised until it is answered.

        Raises ``QueueFullError``, also if ``owner`` has others and would have more than its share. ``num_own`` is the number of
        places that the request has already.
        """
        held = self._admitted_of[owner] - num_own
        share_used = (
            owner is not None
            and held > 0
            and held + num_own + num_texts > (self._limits.max_texts_of_owner or self._limits.max_queued_texts)
        )
        if share_used or self.num_queued + num_texts > self._limits.max_queued_texts:
            raise QueueFullError(self._retry_after_s(owner))
        self._check_wait(owner)
        self._num_admitted += num_texts
        self._admitted_of[owner] += num_texts
        try:
            yield
        finally:
            self._num_admitted -= num_texts
            if self._pump is None or self._pump.done():  # no batch will say that these texts wait no longer
                self._record("cm_queued_texts", self.num_queued, {})
            self._admitted_of[owner] -= num_texts
            if not self._admitted_of[owner]:
                del self._admitted_of[owner]

    async def run(self, items: Sequence[Sized], *, owner: Owner = None) -> list[NDArray[np.float32]]:
        """Return one array for each of a request's texts, in order.

        If the caller is cancelled, as after a client's disconnect, its waiting texts are dropped. Raises ``QueueFullError`` if
        the texts would wait too long; ``admit`` cannot know that, because requests that arrive together pass it before any of
        them is tokenised. Raises ``TooLongError`` if they would take too long with nothing ahead.
        """
        if not items:
            raise ValueError("a request must have at least one text")
        num_tokens = sum(len(item) for item in items)
        self.check_fits(len(items), num_tokens)
        self._check_wait(owner, num_tokens)
        loop, now = asyncio.get_running_loop(), time.monotonic()
        empty: NDArray[np.float32] = np.empty(0, dtype=np.float32)
        request = _Request(
            done=loop.create_future(),
            arrays=[empty] * len(items),
            num_missing=len(items),
            num_queued_tokens=num_tokens,
            owner=owner,
        )
        self._queued.add(owner, num_tokens)
        for i, item in enumerate(items):
            turn = self._turns.next(owner, len(item))
            insort(self._waiting, _Waiting(item, request, position=i, since=now, turn=turn), key=lambda w: w.turn)
        if self._pump is None or self._pump.done():
            # A separate context: a batch serves several requests, so its spans belong to no request's trace.
            self._pump = loop.create_task(self._run_batches(), context=Context())
        try:
            return await request.done
        finally:
            # After a disconnect or a failed batch, the texts still in the queue are never computed.
            self._queued.add(owner, -request.num_queued_tokens)
            request.num_queued_tokens = 0

    def close(self) -> None:
        """Stop the compute thread; waiting requests are cancelled."""
        for waiting in self._waiting:
            waiting.request.done.cancel()
        self._waiting.clear()
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def _run_batches(self) -> None:
        """Run ticks until the queue is empty; the next request starts this task again."""
        loop = asyncio.get_running_loop()
        while batch := self._take_batch():
            # 1. Count what starts to compute and how long it waited.
            num_tokens = sum(waiting.num_tokens for waiting in batch)
            self._num_computing, self._num_computing_tokens = len(batch), num_tokens
            joined = time.perf_counter()
            self._record("cm_queued_texts", self.num_queued, {})
            for waiting in batch:
                self._record("cm_queue_seconds", time.monotonic() - waiting.since, {})
            # 2. Compute in the thread. wait() does not raise: an error is the batch's, not this task's.
            with self._trace("batch") as note:
                note("texts", len(batch))
                note("tokens", num_tokens)
                outcome = loop.run_in_executor(self._executor, self._arrays, [waiting.item for waiting in batch])
                await asyncio.wait([outcome])
            self._num_computing = self._num_computing_tokens = 0
            # 3. Hand arrays, or the error, to the requests of the batch.
            error = outcome.exception()
            if error is None:
                arrays, seconds = outcome.result()
                self.speed.note(num_tokens, time.perf_counter() - joined)
                self._record("cm_compute_seconds", seconds, {})
                self._record("cm_batch_tokens", num_tokens, {})
                self._record("cm_batch_fill", num_tokens / self._limits.max_batch_tokens, {})
                _deliver(batch, arrays)
            else:
                # The class only: a library's message may quote its input.
                _logger.error("a batch of %d texts failed with %s", len(batch), type(error).__name__)
                _fail(batch, error)

    def _arrays(self, items: list[Sized]) -> tuple[Sequence[NDArray[np.float32]], float]:
        """Return an array for each text, and the seconds that they took, without the wait for the thread."""
        started = self._batch_started = time.perf_counter()
        try:
            arrays = self._compute(items)
        finally:
            self._batch_started = None
        assert len(arrays) == len(items), (len(arrays), len(items))
        return arrays, time.perf_counter() - started

    def _take_batch(self) -> list[_Waiting]:
        """Remove the next batch from the queue and return it; empty if nothing waits."""
        # 1. Drop texts whose request is over: cancelled by a disconnect, or failed with another text.
        alive = [waiting for waiting in self._waiting if not waiting.request.done.done()]
        if len(alive) < len(self._waiting):
            self._record("cm_dropped_texts", len(self._waiting) - len(alive), {})
            self._turns.keep((waiting.request.owner, waiting.turn, waiting.num_tokens) for waiting in alive)
        if not alive:
            self._waiting = []
            return []
        # 2. Choose.
        taken = choose_batch(
            [waiting.num_tokens for waiting in alive],
            [waiting.num_overtakes for waiting in alive],
            max_batch_tokens=self._limits.max_batch_tokens,
            max_overtakes=self._limits.max_overtakes,
        )
        # 3. Texts that are older than the newest one taken, and stay, were overtaken.
        for i in set(range(taken[-1])) - set(taken):
            alive[i].num_overtakes += 1
        self._turns.take((alive[i].request.owner, alive[i].turn, alive[i].num_tokens) for i in taken)
        # 4. Take the batch out of the queue and out of its count of tokens.
        for i in taken:
            alive[i].request.num_queued_tokens -= alive[i].num_tokens
            self._queued.add(alive[i].request.owner, -alive[i].num_tokens)
        in_batch = set(taken)
        self._waiting = [waiting for i, waiting in enumerate(alive) if i not in in_batch]
        return [alive[i] for i in taken]

    def _check_wait(self, owner: Owner, num_tokens: int = 0) -> None:
        """Refuse texts that would be answered too late, but never those with nothing ahead: waiting would not help them."""
        ahead = self._num_computing_tokens + self._queued.before(owner, num_tokens)
        wait_s = self.speed.seconds_for(ahead + num_tokens)
        if ahead and wait_s is not None and wait_s > self._limits.max_wait_s:
            raise QueueFullError(self._retry_after_s(owner), too_slow=True)

    def _retry_after_s(self, owner: Owner) -> int:
        wait_s = self.speed.seconds_for(self._num_computing_tokens + self._queued.before(owner, 0))
        return 1 if wait_s is None else min(max(math.ceil(wait_s), 1), _MAX_RETRY_AFTER_S)


def _deliver(batch: list[_Waiting], arrays: Sequence[NDArray[np.float32]]) -> None:
    for waiting, array in zip(batch, arrays, strict=True):
        request = waiting.request
        request.arrays[waiting.position] = array
        request.num_missing -= 1
        if request.num_missing == 0 and not request.done.done():
            request.done.set_result(request.arrays)


def _fail(batch: list[_Waiting], error: BaseException) -> None:
    for waiting in batch:
        if not waiting.request.done.done():
            waiting.request.done.set_exception(error)
