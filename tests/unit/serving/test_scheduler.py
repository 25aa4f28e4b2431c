"""The scheduler: a token budget that is kept, an order that is fair, and requests that get their own vectors."""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import numpy as np
import pytest
from clinical_modernbert.serving.scheduler import QueueFullError, Scheduler, choose_batch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

lengths_of_a_queue = st.lists(st.integers(1, 100), min_size=1, max_size=40)


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


async def _entered(recorder: Recorder) -> None:
    assert await asyncio.to_thread(recorder.entered.acquire, timeout=10)


@settings(deadline=None)
@given(lengths=lengths_of_a_queue, budget=st.integers(1, 200), data=st.data())
def test_a_batch_holds_the_oldest_and_keeps_the_budget(lengths: list[int], budget: int, data: st.DataObject) -> None:
    overtakes = data.draw(st.lists(st.integers(0, 6), min_size=len(lengths), max_size=len(lengths)))
    taken = choose_batch(lengths, overtakes, max_batch_tokens=budget, max_overtakes=4)
    assert taken[0] == 0
    assert taken == sorted(set(taken))
    assert len(taken) == 1 or sum(lengths[i] for i in taken) <= budget
    overdue = [i for i in range(1, len(lengths)) if overtakes[i] >= 4]
    left = [i for i in overdue if i not in taken]
    if left:
        # Whatever is overdue and left behind was overtaken by nothing.
        assert all(i < left[0] and (i == 0 or i in overdue) for i in taken)
    else:
        room = budget - sum(lengths[i] for i in taken)
        assert all(lengths[i] > room for i in range(len(lengths)) if i not in taken)


@settings(deadline=None)
@given(lengths=lengths_of_a_queue, budget=st.integers(20, 200), max_overtakes=st.integers(0, 5), data=st.data())
def test_no_text_is_overtaken_more_often_than_allowed(
    lengths: list[int], budget: int, max_overtakes: int, data: st.DataObject
) -> None:
    """A queue that newcomers of every length join at each pass."""
    queue = [(length, 0, 0) for length in lengths]  # length, overtakes, pass of arrival
    for number in range(1, 30):
        taken = choose_batch(
            [item[0] for item in queue],
            [item[1] for item in queue],
            max_batch_tokens=budget,
            max_overtakes=max_overtakes,
        )
        queue = [
            (length, overtakes + (i < taken[-1]), arrived)
            for i, (length, overtakes, arrived) in enumerate(queue)
            if i not in taken
        ]
        assert all(overtakes <= max_overtakes for _, overtakes, _ in queue)
        newcomers = data.draw(st.lists(st.integers(1, 100), max_size=4))
        queue += [(length, 0, number) for length in newcomers]
        if not queue:
            return


@settings(deadline=None)
@given(lengths=lengths_of_a_queue, budget=st.integers(20, 200), max_overtakes=st.integers(0, 5), data=st.data())
def test_no_text_waits_beyond_its_bound_whoever_comes_later(
    lengths: list[int], budget: int, max_overtakes: int, data: st.DataObject
) -> None:
    """A pass either takes a text that is older, or overtakes: so many passes, at most, whatever load follows."""
    queue = [
        (length, 0, 0, older) for older, length in enumerate(lengths)
    ]  # length, overtakes, passes waited, older ones
    for _ in range(40):
        lengths_now, overtakes = [item[0] for item in queue], [item[1] for item in queue]
        taken = choose_batch(lengths_now, overtakes, max_batch_tokens=budget, max_overtakes=max_overtakes)
        queue = [
            (length, overtakes + (i < taken[-1]), waited + 1, older)
            for i, (length, overtakes, waited, older) in enumerate(queue)
            if i not in taken
        ]
        assert all(waited <= max_overtakes + older for _, _, waited, older in queue)
        newcomers = data.draw(st.lists(st.integers(1, 100), max_size=3))
        queue += [(length, 0, 0, len(queue) + i) for i, length in enumerate(newcomers)]
        if not queue:
            return


def test_a_batch_is_filled_with_texts_of_like_length() -> None:
    lengths = [10, 90, 11, 50, 9, 12]
    assert choose_batch(lengths, [0] * 6, max_batch_tokens=100, max_overtakes=4) == [0, 2, 3, 4, 5]


def test_a_text_longer_than_the_budget_travels_alone() -> None:
    assert choose_batch([500, 1], [0, 0], max_batch_tokens=100, max_overtakes=4) == [0]


def test_concurrent_requests_share_a_batch_and_each_gets_its_own_vectors_in_order() -> None:
    async def body() -> None:
        recorder = Recorder(held=True)
        scheduler = Scheduler(recorder, max_batch_tokens=100, max_queued_texts=100)
        first = asyncio.create_task(scheduler.run([_text(1)]))
        await _entered(recorder)
        others = [asyncio.create_task(scheduler.run([_text(n, n), _text(n + 50, 2)])) for n in (2, 3, 4)]
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
        scheduler = Scheduler(recorder, max_batch_tokens=10, max_queued_texts=100)
        vectors = await scheduler.run([_text(n, 4) for n in range(7)])
        assert vectors[:, 0].tolist() == list(range(7))
        assert all(sum(len(ids) for ids in batch) <= 10 for batch in recorder.batches)
        scheduler.close()

    _run(body)


def test_short_newcomers_fill_the_gaps_only_until_the_older_texts_are_overdue() -> None:
    async def body() -> None:
        recorder = Recorder(held=True)
        scheduler = Scheduler(recorder, max_batch_tokens=10, max_queued_texts=100, max_overtakes=2)
        first = asyncio.create_task(scheduler.run([_text(0)]))
        await _entered(recorder)
        older = asyncio.create_task(scheduler.run([_text(n, 6) for n in range(1, 6)]))
        await asyncio.sleep(0)
        newer = asyncio.create_task(scheduler.run([_text(n, 3) for n in range(11, 15)]))
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
        scheduler = Scheduler(recorder, max_batch_tokens=100, max_queued_texts=100)
        first = asyncio.create_task(scheduler.run([_text(1)]))
        await _entered(recorder)
        gone = asyncio.create_task(scheduler.run([_text(2), _text(3)]))
        stays = asyncio.create_task(scheduler.run([_text(4)]))
        await asyncio.sleep(0)
        gone.cancel()
        recorder.gate.release(10)
        await asyncio.gather(first, stays)
        assert recorder.batches == [[(1, 1, 1)], [(4, 4, 4)]]
        with pytest.raises(asyncio.CancelledError):
            await gone
        scheduler.close()

    _run(body)


def test_a_client_that_leaves_while_its_batch_computes_disturbs_no_other() -> None:
    async def body() -> None:
        recorder = Recorder(held=True)
        scheduler = Scheduler(recorder, max_batch_tokens=100, max_queued_texts=100)
        gone = asyncio.create_task(scheduler.run([_text(1)]))
        await _entered(recorder)
        gone.cancel()
        recorder.gate.release(10)
        assert (await scheduler.run([_text(2)])).tolist() == [[2, 3]]
        scheduler.close()

    _run(body)


def test_a_full_queue_refuses_whole_requests_and_takes_more_once_there_is_room() -> None:
    async def body() -> None:
        recorder = Recorder(held=True)
        scheduler = Scheduler(recorder, max_batch_tokens=100, max_queued_texts=4)

        async def request(num_texts: int) -> None:
            with scheduler.admit(num_texts):
                await scheduler.run([_text(n) for n in range(num_texts)])

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


def test_a_queue_that_would_answer_too_late_refuses_at_once_and_nobody_waits_longer() -> None:
    def compute(items: list[Sequence[int]]) -> NDArray[np.float32]:
        time.sleep(0.002 * sum(len(ids) for ids in items))
        return np.ones((len(items), 2), dtype=np.float32)

    async def body() -> None:
        scheduler = Scheduler(compute, max_batch_tokens=20, max_queued_texts=1000, max_wait_s=1.5)
        answered: list[float] = []
        refused: list[tuple[float, int]] = []

        async def request(delay_s: float) -> None:
            await asyncio.sleep(delay_s)
            begun = time.monotonic()
            try:
                with scheduler.admit(1):
                    await asyncio.sleep(0)  # tokenised: whoever came at the same time is admitted by now
                    await scheduler.run([_text(1, 10)])
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
        assert scheduler._num_queued_tokens == scheduler._num_computing_tokens == 0
        scheduler.close()

    _run(body)


def test_a_request_that_nothing_is_before_is_never_refused_for_its_length() -> None:
    async def body() -> None:
        recorder = Recorder(held=True)
        scheduler = Scheduler(recorder, max_batch_tokens=10, max_queued_texts=100, max_wait_s=1)
        scheduler._note_speed(10, 1.0)
        long = asyncio.create_task(scheduler.run([_text(1, 500)]))
        await _entered(recorder)
        with pytest.raises(QueueFullError) as full, scheduler.admit(1):
            pass
        assert (full.value.too_slow, full.value.retry_after_s) == (True, 30)
        recorder.gate.release(10)
        await long
        scheduler.close()

    _run(body)


def test_tokens_of_clients_that_left_count_no_longer() -> None:
    async def body() -> None:
        recorder = Recorder(held=True)
        scheduler = Scheduler(recorder, max_batch_tokens=10, max_queued_texts=100, max_wait_s=5)
        scheduler._note_speed(10, 1.0)
        first = asyncio.create_task(scheduler.run([_text(1)]))
        await _entered(recorder)
        gone = asyncio.create_task(scheduler.run([_text(2, 5)] * 9))
        await asyncio.sleep(0)
        with pytest.raises(QueueFullError):
            await scheduler.run([_text(3, 5)])
        gone.cancel()
        await asyncio.sleep(0)
        stays = asyncio.create_task(scheduler.run([_text(3, 5)]))
        await asyncio.sleep(0)
        recorder.gate.release(10)
        await asyncio.gather(first, stays)
        with pytest.raises(asyncio.CancelledError):
            await gone
        assert scheduler._num_queued_tokens == 0
        scheduler.close()

    _run(body)


def test_a_small_batch_does_not_tell_how_fast_a_queue_shrinks() -> None:
    scheduler = Scheduler(Recorder(), max_batch_tokens=100, max_queued_texts=4)
    scheduler._note_speed(49, 10.0)
    assert scheduler._tokens_per_s is None
    scheduler._note_speed(50, 10.0)
    assert scheduler._tokens_per_s == 5
    scheduler.close()


def test_places_are_given_back_when_a_request_fails_before_it_is_queued() -> None:
    scheduler = Scheduler(Recorder(), max_batch_tokens=100, max_queued_texts=4)
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
        scheduler = Scheduler(compute, max_batch_tokens=100, max_queued_texts=100)
        with pytest.raises(RuntimeError):
            await scheduler.run([_text(13)])
        assert (await scheduler.run([_text(1)])).shape == (1, 2)
        scheduler.close()

    _run(body)
    assert "RuntimeError" in caplog.text
    assert "Zebulon" not in caplog.text


def test_a_compute_function_that_loses_a_text_is_an_error_and_not_a_hang() -> None:
    async def body() -> None:
        scheduler = Scheduler(lambda ids: np.ones((1, 2), dtype=np.float32), max_batch_tokens=9, max_queued_texts=9)
        with pytest.raises(AssertionError):
            await scheduler.run([_text(1), _text(2)])
        scheduler.close()

    _run(body)


def test_closing_cancels_those_who_wait() -> None:
    async def body() -> None:
        recorder = Recorder(held=True)
        scheduler = Scheduler(recorder, max_batch_tokens=100, max_queued_texts=100)
        first = asyncio.create_task(scheduler.run([_text(1)]))
        await _entered(recorder)
        waiting = asyncio.create_task(scheduler.run([_text(2)]))
        await asyncio.sleep(0)
        scheduler.close()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        recorder.gate.release()
        assert (await first).tolist() == [[1, 3]]

    _run(body)
