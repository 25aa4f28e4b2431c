"""The scheduler: requests get their own vectors, and too full or too slow a queue refuses them."""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import numpy as np
import pytest
from clinical_modernbert.serving.scheduler import QueueFullError, QueueLimits, Scheduler, TooLongError
from numpy.typing import NDArray


class Recorder:
    """A compute function whose vectors name their text, and which waits until it is let go."""

    def __init__(self, *, held: bool = False) -> None:
        self.batches: list[list[tuple[int, ...]]] = []
        self.threads: set[int] = set()
        self.entered = threading.Semaphore(0)
        self.gate = threading.Semaphore(0 if held else 10_000)

    def __call__(self, token_ids: list[Sequence[int]]) -> NDArray[np.float32]:
        self.batches.append([tuple(ids) for ids in token_ids])
        self.threads.add(threading.get_ident())
        self.entered.release()
        assert self.gate.acquire(timeout=10)
        return np.array([[ids[0], len(ids)] for ids in token_ids], dtype=np.float32)


def _text(name: int, length: int = 3) -> list[int]:
    return [name] * length


def _run(body: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(body(), timeout=20))


async def _vectors(scheduler: Scheduler, texts: Sequence[Sequence[int]]) -> NDArray[np.float32]:
    return np.stack(await scheduler.run(texts))


async def _entered(recorder: Recorder) -> None:
    assert await asyncio.to_thread(recorder.entered.acquire, timeout=10)


def test_concurrent_requests_share_a_batch_and_each_gets_its_own_vectors_in_order() -> None:
    async def body() -> None:
        recorder = Recorder(held=True)
        scheduler = Scheduler(recorder, QueueLimits(max_batch_tokens=100, max_queued_texts=100))
        first = asyncio.create_task(_vectors(scheduler, [_text(1)]))
        await _entered(recorder)
        others = [asyncio.create_task(_vectors(scheduler, [_text(n, n), _text(n + 50, 2)])) for n in (2, 3, 4)]
        await asyncio.sleep(0)
        recorder.gate.release(10)
        assert (await first).tolist() == [[1, 3]]
        for n, task in zip((2, 3, 4), others, strict=True):
            assert (await task).tolist() == [[n, n], [n + 50, 2]]
        # While the first computed, the rest gathered; the event loop's thread never computed.
        assert [len(batch) for batch in recorder.batches] == [1, 6]
        assert len(recorder.threads) == 1
        assert threading.get_ident() not in recorder.threads
        scheduler.close()

    _run(body)


def test_a_request_beyond_the_budget_is_split_over_passes() -> None:
    async def body() -> None:
        recorder = Recorder()
        scheduler = Scheduler(recorder, QueueLimits(max_batch_tokens=10, max_queued_texts=100))
        vectors = await _vectors(scheduler, [_text(n, 4) for n in range(7)])
        assert vectors[:, 0].tolist() == list(range(7))
        assert all(sum(len(ids) for ids in batch) <= 10 for batch in recorder.batches)
        scheduler.close()

    _run(body)


def test_short_newcomers_fill_the_gaps_only_until_the_older_texts_are_overdue() -> None:
    async def body() -> None:
        recorder = Recorder(held=True)
        scheduler = Scheduler(recorder, QueueLimits(max_batch_tokens=10, max_queued_texts=100, max_overtakes=2))
        first = asyncio.create_task(_vectors(scheduler, [_text(0)]))
        await _entered(recorder)
        older = asyncio.create_task(_vectors(scheduler, [_text(n, 6) for n in range(1, 6)]))
        await asyncio.sleep(0)
        newer = asyncio.create_task(_vectors(scheduler, [_text(n, 3) for n in range(11, 15)]))
        await asyncio.sleep(0)
        recorder.gate.release(100)
        await asyncio.gather(first, older, newer)
        names = [[ids[0] for ids in batch] for batch in recorder.batches]
        assert names == [[0], [1, 11], [2, 12], [3], [4], [5, 13], [14]]
        scheduler.close()

    _run(body)


def test_texts_of_a_client_that_left_are_not_computed() -> None:
    async def body() -> None:
        recorder = Recorder(held=True)
        scheduler = Scheduler(recorder, QueueLimits(max_batch_tokens=100, max_queued_texts=100))
        first = asyncio.create_task(_vectors(scheduler, [_text(1)]))
        await _entered(recorder)
        left = asyncio.create_task(_vectors(scheduler, [_text(2), _text(3)]))
        stays = asyncio.create_task(_vectors(scheduler, [_text(4)]))
        await asyncio.sleep(0)
        left.cancel()
        recorder.gate.release(10)
        await asyncio.gather(first, stays)
        assert recorder.batches == [[(1, 1, 1)], [(4, 4, 4)]]
        with pytest.raises(asyncio.CancelledError):
            await left
        scheduler.close()

    _run(body)


def test_the_gauge_of_queued_texts_is_zero_after_the_last_client_left() -> None:
    async def body() -> None:
        gauge: list[float] = []
        recorder = Recorder(held=True)
        scheduler = Scheduler(
            recorder,
            QueueLimits(max_batch_tokens=3, max_queued_texts=100),
            record=lambda name, value, tags: gauge.append(value) if name == "cm_queued_texts" else None,
        )

        async def request(name: int) -> None:
            with scheduler.admit(1):
                await _vectors(scheduler, [_text(name)])

        tasks = [asyncio.create_task(request(name)) for name in range(3)]
        await _entered(recorder)
        assert gauge == [2]
        for task in tasks[1:]:
            task.cancel()
        recorder.gate.release(10)
        await asyncio.gather(*tasks, return_exceptions=True)
        assert gauge[-1] == 0
        scheduler.close()

    _run(body)


def test_a_client_that_leaves_while_its_batch_computes_disturbs_no_other() -> None:
    async def body() -> None:
        recorder = Recorder(held=True)
        scheduler = Scheduler(recorder, QueueLimits(max_batch_tokens=100, max_queued_texts=100))
        left = asyncio.create_task(_vectors(scheduler, [_text(1)]))
        await _entered(recorder)
        left.cancel()
        recorder.gate.release(10)
        assert (await _vectors(scheduler, [_text(2)])).tolist() == [[2, 3]]
        scheduler.close()

    _run(body)


def test_a_full_queue_refuses_whole_requests_and_takes_more_once_there_is_room() -> None:
    async def body() -> None:
        recorder = Recorder(held=True)
        scheduler = Scheduler(recorder, QueueLimits(max_batch_tokens=100, max_queued_texts=4))

        async def request(num_texts: int) -> None:
            with scheduler.admit(num_texts):
                await _vectors(scheduler, [_text(n) for n in range(num_texts)])

        computing = asyncio.create_task(request(4))
        await _entered(recorder)
        # What computes waits no longer, so there is room for four.
        assert scheduler.num_queued == 0
        waiting = asyncio.create_task(request(3))
        await asyncio.sleep(0)
        assert scheduler.num_queued == 3
        with pytest.raises(QueueFullError) as full:
            await request(2)
        assert full.value.retry_after_s >= 1
        await_one = asyncio.create_task(request(1))
        await asyncio.sleep(0)
        recorder.gate.release(10)
        await asyncio.gather(computing, waiting, await_one)
        assert scheduler.num_queued == 0
        await request(4)
        scheduler.close()

    _run(body)


def test_a_queue_that_would_answer_too_late_refuses_at_once_and_no_text_waits_longer() -> None:
    def compute(items: list[Sequence[int]]) -> NDArray[np.float32]:
        time.sleep(0.002 * sum(len(ids) for ids in items))
        return np.ones((len(items), 2), dtype=np.float32)

    async def body() -> None:
        scheduler = Scheduler(compute, QueueLimits(max_batch_tokens=20, max_queued_texts=1000, max_wait_s=1.5))
        answered: list[float] = []
        refused: list[tuple[float, int]] = []

        async def request(delay_s: float) -> None:
            await asyncio.sleep(delay_s)
            begun = time.monotonic()
            try:
                with scheduler.admit(1):
                    await asyncio.sleep(0)  # tokenised: requests that arrived at the same time are admitted by now
                    await _vectors(scheduler, [_text(1, 10)])
            except QueueFullError as full:
                refused.append((time.monotonic() - begun, full.retry_after_s))
            else:
                answered.append(time.monotonic() - begun)

        # No speed is known yet, so that nothing is refused: the first batch tells it.
        await asyncio.gather(request(0), request(0))
        # 200 at once and 40 that come later, of 20 ms each: four seconds of work where 1.5 may wait.
        await asyncio.gather(*(request(0) for _ in range(200)), *(request(0.01 * i) for i in range(40)))
        assert len(answered) + len(refused) == 242
        assert len(answered) > 40
        assert max(answered) < 3  # a busy machine has its pauses; all of the work would take nearly five
        assert max(seconds for seconds, _ in refused) < 1
        assert {retry_after_s for _, retry_after_s in refused} <= {2, 3}
        await request(0)
        assert len(answered) + len(refused) == 243
        assert scheduler.num_tokens_ahead == 0
        scheduler.close()

    _run(body)


def test_a_request_that_nothing_is_before_is_never_refused_for_its_length() -> None:
    async def body() -> None:
        recorder = Recorder(held=True)
        scheduler = Scheduler(recorder, QueueLimits(max_batch_tokens=10, max_queued_texts=100, max_wait_s=1))
        scheduler.speed.note(10, 1.0)
        long = asyncio.create_task(_vectors(scheduler, [_text(1, 500)]))
        await _entered(recorder)
        with pytest.raises(QueueFullError) as full, scheduler.admit(1):
            pass
        assert (full.value.too_slow, full.value.retry_after_s) == (True, 30)
        recorder.gate.release(10)
        await long
        scheduler.close()

    _run(body)


def test_texts_that_cannot_be_computed_in_time_are_refused_at_once_with_what_fits() -> None:
    async def body() -> None:
        recorder = Recorder()
        scheduler = Scheduler(
            recorder, QueueLimits(max_batch_tokens=10, max_queued_texts=100, max_wait_s=2), tokens_per_s=10
        )
        with pytest.raises(TooLongError) as refused:
            await scheduler.run([_text(1, 7)] * 3)
        assert (refused.value.num_tokens, refused.value.fitting_tokens) == (21, 20)
        assert recorder.batches == []
        await scheduler.run([_text(1, 10)] * 2)
        scheduler.close()

    _run(body)


def test_how_long_a_batch_has_computed_is_known() -> None:
    async def body() -> None:
        recorder = Recorder(held=True)
        scheduler = Scheduler(recorder, QueueLimits(max_batch_tokens=10, max_queued_texts=100))
        assert scheduler.seconds_in_batch == 0
        task = asyncio.create_task(_vectors(scheduler, [_text(1)]))
        await _entered(recorder)
        assert scheduler.seconds_in_batch > 0
        recorder.gate.release(10)
        await task
        assert scheduler.seconds_in_batch == 0
        scheduler.close()

    _run(body)


def test_tokens_of_clients_that_left_count_no_longer() -> None:
    async def body() -> None:
        recorder = Recorder(held=True)
        scheduler = Scheduler(recorder, QueueLimits(max_batch_tokens=10, max_queued_texts=100, max_wait_s=5))
        scheduler.speed.note(10, 1.0)
        first = asyncio.create_task(_vectors(scheduler, [_text(1)]))
        await _entered(recorder)
        left = asyncio.create_task(_vectors(scheduler, [_text(2, 5)] * 9))
        await asyncio.sleep(0)
        with pytest.raises(QueueFullError):
            await _vectors(scheduler, [_text(3, 5)])
        left.cancel()
        await asyncio.sleep(0)
        stays = asyncio.create_task(_vectors(scheduler, [_text(3, 5)]))
        await asyncio.sleep(0)
        recorder.gate.release(10)
        await asyncio.gather(first, stays)
        with pytest.raises(asyncio.CancelledError):
            await left
        assert scheduler.num_tokens_ahead == 0
        scheduler.close()

    _run(body)


def test_places_are_given_back_when_a_request_fails_before_it_is_queued() -> None:
    scheduler = Scheduler(Recorder(), QueueLimits(max_batch_tokens=100, max_queued_texts=4))
    for _ in range(3):
        with pytest.raises(RuntimeError), scheduler.admit(4):
            raise RuntimeError
    assert scheduler.num_queued == 0
    scheduler.close()


def test_a_failed_batch_fails_its_own_requests_and_the_next_ones_are_served(caplog: pytest.LogCaptureFixture) -> None:
    def compute(token_ids: list[Sequence[int]]) -> NDArray[np.float32]:
        if token_ids[0][0] == 13:
            raise RuntimeError("the note said Zebulon")
        return np.ones((len(token_ids), 2), dtype=np.float32)

    async def body() -> None:
        scheduler = Scheduler(compute, QueueLimits(max_batch_tokens=100, max_queued_texts=100))
        with pytest.raises(RuntimeError):
            await _vectors(scheduler, [_text(13)])
        assert (await _vectors(scheduler, [_text(1)])).shape == (1, 2)
        scheduler.close()

    _run(body)
    assert "RuntimeError" in caplog.text
    assert "Zebulon" not in caplog.text


def test_a_compute_function_that_loses_a_text_is_an_error_and_not_a_hang() -> None:
    async def body() -> None:
        scheduler = Scheduler(
            lambda ids: np.ones((1, 2), dtype=np.float32), QueueLimits(max_batch_tokens=9, max_queued_texts=9)
        )
        with pytest.raises(AssertionError):
            await _vectors(scheduler, [_text(1), _text(2)])
        scheduler.close()

    _run(body)


def test_closing_cancels_waiting_requests() -> None:
    async def body() -> None:
        recorder = Recorder(held=True)
        scheduler = Scheduler(recorder, QueueLimits(max_batch_tokens=100, max_queued_texts=100))
        first = asyncio.create_task(_vectors(scheduler, [_text(1)]))
        await _entered(recorder)
        waiting = asyncio.create_task(_vectors(scheduler, [_text(2)]))
        await asyncio.sleep(0)
        scheduler.close()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        recorder.gate.release()
        assert (await first).tolist() == [[1, 3]]

    _run(body)
