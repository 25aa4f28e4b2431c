"""The choice of a batch: within the token budget, and fair."""

import pytest
from clinical_modernbert.serving.batching import choose_batch
from hypothesis import given, settings
from hypothesis import strategies as st

lengths_of_a_queue = st.lists(st.integers(1, 100), min_size=1, max_size=40)


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
        # Nothing overtakes an overdue text that does not fit.
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
def test_no_text_waits_beyond_its_bound_whatever_arrives_later(
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


@pytest.mark.parametrize(
    ("lengths", "num_overtakes", "positions"),
    [([6, 3, 6, 4], [0, 0, 0, 0], [0, 3]), ([3, 6, 3], [1, 1, 0], [0, 2]), ([3, 6, 3], [1, 4, 0], [0, 1])],
)
def test_the_worked_example(lengths: list[int], num_overtakes: list[int], positions: list[int]) -> None:
    """The two batches of the docstring, and the second one after c was overtaken four times."""
    assert choose_batch(lengths, num_overtakes, max_batch_tokens=10, max_overtakes=4) == positions
