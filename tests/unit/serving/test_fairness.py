"""Keys share a replica: a key with a few texts does not wait for another's flood."""

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest
from clinical_modernbert.serving.fairness import QueuedTokens, Turns
from clinical_modernbert.serving.scheduler import QueueFullError, QueueLimits, Scheduler
from numpy.typing import NDArray


def order(*texts: tuple[str | None, int]) -> list[int]:
    turns = Turns()
    given = [turns.next(owner, tokens) for owner, tokens in texts]
    return sorted(range(len(texts)), key=lambda i: given[i])


def test_keys_alternate_by_tokens_and_one_key_keeps_its_order() -> None:
    assert order(("a", 10), ("a", 10), ("a", 10), ("b", 5), ("b", 5)) == [0, 3, 4, 1, 2]
    assert order(*[(None, 7)] * 5) == [0, 1, 2, 3, 4]


def test_a_key_that_was_idle_gets_no_credit_for_that() -> None:
    turns = Turns()
    turns.next("a", 10)
    turns.take([("a", turns.next("a", 10), 10)])
    assert turns.next("b", 1) == 10


def test_dropped_texts_cost_their_key_nothing() -> None:
    turns = Turns()
    stays = turns.next("a", 4)
    turns.next("a", 1_000_000)
    turns.keep([("a", stays, 4)])
    assert turns.next("a", 1) == 4


def test_a_key_that_drops_texts_still_pays_for_those_that_were_computed() -> None:
    turns = Turns()
    long = turns.next("a", 8000)
    turns.next("a", 1)
    waiting = [("b", turns.next("b", 5), 5) for _ in range(3)]
    turns.take([("a", long, 8000)])
    turns.keep(waiting)  # the short text of a was dropped
    assert turns.next("a", 1) == 8000
    assert turns.next("b", 5) == 15


def test_what_is_before_a_text_does_not_grow_with_another_key_s_flood() -> None:
    queued = QueuedTokens()
    queued.add("flood", 100_000)
    assert queued.before("few", 10) == 10
    assert queued.before("flood", 10) == 100_000
    queued.add("few", 50)
    assert queued.before("few", 10) == 50 + 60
    queued.add("flood", -100_000)
    queued.add("few", -50)
    assert queued.total == 0


def test_a_single_text_is_in_the_next_batch_whatever_another_key_has_queued() -> None:
    batches: list[list[int]] = []

    def compute(items: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        batches.append([ids[0] for ids in items])
        return np.ones((len(items), 1), dtype=np.float32)

    async def body() -> None:
        scheduler = Scheduler(
            compute, QueueLimits(max_batch_tokens=20, max_queued_texts=1000, max_wait_s=10), tokens_per_s=100
        )
        flood = asyncio.create_task(scheduler.run([[1] * 10] * 80, owner="flood"))
        await asyncio.sleep(0)
        with pytest.raises(QueueFullError):  # the flood's own next text would wait too long
            await scheduler.run([[1] * 10] * 30, owner="flood")
        await scheduler.run([[2] * 10], owner="few")
        assert not flood.done()
        await flood
        scheduler.close()

    asyncio.run(asyncio.wait_for(body(), timeout=20))
    first = next(number for number, batch in enumerate(batches) if 2 in batch)
    assert first <= 1


def test_a_key_may_hold_its_share_of_the_queue_and_others_get_the_rest() -> None:
    scheduler = Scheduler(lambda items: [], QueueLimits(max_batch_tokens=10, max_queued_texts=10, max_texts_of_owner=5))
    with scheduler.admit(8, owner="a"):  # nothing of this key waits: a large request is taken
        with pytest.raises(QueueFullError), scheduler.admit(1, owner="a"):
            pass
        with scheduler.admit(2, owner="b"):
            pass
    with scheduler.admit(3, owner="a"), scheduler.admit(2, owner="a"):
        pass
    scheduler.close()
