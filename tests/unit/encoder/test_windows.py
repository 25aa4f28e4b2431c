"""Long texts: no token lost, windows of like length, and an average that counts tokens and not windows."""

import numpy as np
import pytest
from clinical_modernbert.encoder.windows import average, cut, windows
from hypothesis import given, settings
from hypothesis import strategies as st

CLS, SEP = -1, -2


@settings(deadline=None)
@given(inner=st.integers(0, 200), max_tokens=st.integers(8, 40))
def test_windows_hold_every_token_once_and_are_of_like_length(inner: int, max_tokens: int) -> None:
    found = windows([CLS, *range(inner), SEP], max_tokens)
    assert [i for piece in found for i in piece[1:-1]] == list(range(inner))
    assert all((piece[0], piece[-1]) == (CLS, SEP) and len(piece) <= max_tokens for piece in found)
    lengths = [len(piece) for piece in found]
    assert max(lengths) - min(lengths) <= 1
    assert len(found) == max(1, -(-inner // (max_tokens - 2)))  # the fewest


def test_the_average_counts_tokens_without_the_special_ones() -> None:
    vectors = [np.array([1.0, 0.0], dtype=np.float32), np.array([0.0, 1.0], dtype=np.float32)]
    np.testing.assert_allclose(average(vectors, [5, 8]), [3 / 9, 6 / 9], atol=1e-7)
    np.testing.assert_allclose(average(vectors, [2, 4]), [1 / 3, 2 / 3], atol=1e-7)
    np.testing.assert_array_equal(average(vectors[:1], [7]), vectors[0])


@pytest.mark.parametrize(("left", "kept"), [(False, [0, 1, 2]), (True, [7, 8, 9])])
def test_a_cut_keeps_one_end_and_the_special_tokens(left: bool, kept: list[int]) -> None:
    assert cut([CLS, *range(10), SEP], 5, left=left) == [CLS, *kept, SEP]
    assert cut([CLS, 0, SEP], 5, left=left) == [CLS, 0, SEP]
