"""A mixture gives each corpus its share of the rows, in an order that is a function of the place."""

import numpy as np
import pytest
from clinical_modernbert.training.mixture import BLOCK, Mixture, block_rows
from hypothesis import given
from hypothesis import strategies as st

WEIGHTS = st.lists(st.floats(0.01, 1), min_size=1, max_size=5)


@given(WEIGHTS)
def test_a_block_is_divided_by_weight_to_one_row(weights: list[float]) -> None:
    rows = block_rows(weights)
    assert sum(rows) == BLOCK
    assert all(abs(n - BLOCK * w / sum(weights)) < 1 + 1e-9 for n, w in zip(rows, weights, strict=True))


@given(WEIGHTS, st.integers(0, 3 * BLOCK), st.integers(1, 700))
def test_rows_of_each_corpus_follow_each_other_without_a_gap(weights: list[float], place: int, count: int) -> None:
    names = tuple(map(str, range(len(weights))))
    mixture = Mixture(names, block_rows(weights), first_rows=tuple(range(len(weights))))
    whole = mixture.numbers(0, place + count, seed=7)
    assert np.array_equal(mixture.numbers(place, count, seed=7), whole[place:])
    taken = np.arange(len(weights)) + np.bincount(whole[:place], minlength=len(weights))
    assert np.array_equal(mixture.taken(place, seed=7), taken)


def test_corpora_alternate_in_another_order_for_another_seed() -> None:
    mixture = Mixture(("a", "b"), block_rows((3, 1)), first_rows=(0, 0))
    assert mixture.shares == {"a": 0.75, "b": 0.25}
    numbers = mixture.numbers(0, BLOCK, seed=0)
    assert numbers.sum() == 250 and not np.array_equal(numbers, mixture.numbers(0, BLOCK, seed=1))
    # Mixed, not one corpus after the other: every tenth of the block has some of both.
    assert all(0 < part.sum() < 100 for part in np.split(numbers, 10))
    assert numbers.reshape(10, 100).sum(1).std() == pytest.approx(np.sqrt(100 * 0.25 * 0.75), rel=0.8)
