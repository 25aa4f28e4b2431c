"""Which tokens are masked: the rate holds for every share of clinical tokens, by odds, as whole terms."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from clinical_modernbert.masking import mask_probabilities, row_draws, select, term_starts
from hypothesis import given
from hypothesis import strategies as st

NUM_DRAWS = 4000
counts = st.integers(0, 8192)
rates = st.floats(0.001, 0.999)
odds_values = st.floats(1.0, 1000.0)


@given(num_salient=counts, num_ordinary=counts, rate=rates, odds=odds_values)
def test_the_expected_share_is_the_rate_and_the_odds_are_kept(
    num_salient: int, num_ordinary: int, rate: float, odds: float
) -> None:
    (salient_p,), (ordinary_p,) = mask_probabilities(
        np.array([num_salient]), np.array([num_ordinary]), rate=rate, odds=odds
    )
    total = num_salient + num_ordinary
    if total == 0:
        assert (salient_p, ordinary_p) == (0.0, 0.0)
        return
    assert num_salient * salient_p + num_ordinary * ordinary_p == pytest.approx(rate * total, rel=1e-9)
    assert 0.0 < ordinary_p < 1.0
    assert 0.0 < salient_p < 1.0
    assert salient_p / (1 - salient_p) == pytest.approx(odds * ordinary_p / (1 - ordinary_p), rel=1e-6)


@pytest.mark.parametrize("whole_terms", [True, False])
@pytest.mark.parametrize("salient_share", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize(("rate", "odds"), [(0.30, 4.0), (0.15, 1.0), (0.15, 8.0)])
def test_a_row_s_masked_share_is_the_rate_whatever_its_share_of_clinical_tokens(
    make_rows: Callable[..., Any], salient_share: float, rate: float, odds: float, whole_terms: bool
) -> None:
    row = make_rows(1, 128, salient_share=salient_share, seed=1)
    maskable, salient = row.maskable.repeat(NUM_DRAWS, 0), row.salient.repeat(NUM_DRAWS, 0)
    uniform = np.random.default_rng(2).random(maskable.shape)
    selected = select(uniform, maskable_RL=maskable, salient_RL=salient, rate=rate, odds=odds, whole_terms=whole_terms)

    # Each draw masks a sum of independent terms and ordinary tokens: its variance is the sum of length^2 p (1 - p).
    num_salient, num_ordinary = int(row.salient.sum()), int((row.maskable & ~row.salient).sum())
    (p_s,), (p_o,) = mask_probabilities(np.array([num_salient]), np.array([num_ordinary]), rate=rate, odds=odds)
    lengths = _term_lengths(row.salient[0]) if whole_terms else [1] * num_salient
    variance = sum(length**2 for length in lengths) * p_s * (1 - p_s) + num_ordinary * p_o * (1 - p_o)
    tolerance = 5 * math.sqrt(variance / NUM_DRAWS)
    assert selected.sum() / NUM_DRAWS == pytest.approx(rate * row.maskable.sum(), abs=tolerance)
    assert not (selected & ~maskable).any()

    if 0 < salient_share < 1:
        found_s = selected[:, row.salient[0]].mean()
        found_o = selected[:, (row.maskable & ~row.salient)[0]].mean()
        found = math.log(found_s / (1 - found_s)) - math.log(found_o / (1 - found_o))
        # Standard error of a log-odds ratio; whole terms count once.
        units = NUM_DRAWS * num_salient**2 / sum(length**2 for length in lengths)
        error = math.sqrt(1 / (units * p_s * (1 - p_s)) + 1 / (NUM_DRAWS * num_ordinary * p_o * (1 - p_o)))
        assert found == pytest.approx(math.log(odds), abs=5 * error)


@given(seed=st.integers(0, 2**32), share=st.floats(0.05, 0.6), rate=st.floats(0.05, 0.6))
def test_a_clinical_term_is_masked_as_a_whole_or_not_at_all(seed: int, share: float, rate: float) -> None:
    rng = np.random.default_rng(seed)
    salient = rng.random((4, 64)) < share
    maskable = rng.random((4, 64)) < 0.9
    selected = select(
        rng.random((4, 64)), maskable_RL=maskable, salient_RL=salient, rate=rate, odds=3.0, whole_terms=True
    )
    marked = salient & maskable
    for row in range(4):
        for start, stop in _terms(marked[row]):
            assert selected[row, start:stop].all() or not selected[row, start:stop].any()


def test_without_whole_terms_each_token_decides_for_itself() -> None:
    salient = np.ones((1, 1000), dtype=bool)
    uniform = np.random.default_rng(0).random((1, 1000))
    selected = select(uniform, maskable_RL=salient, salient_RL=salient, rate=0.3, odds=4.0, whole_terms=False)
    np.testing.assert_array_equal(selected, uniform < 0.3)


def test_a_term_starts_after_any_token_that_is_not_of_it() -> None:
    salient = np.array([[1, 1, 0, 1, 1, 1, 0, 0, 1]], dtype=bool)
    np.testing.assert_array_equal(term_starts(salient)[salient], [0, 0, 3, 3, 3, 8])


def test_draws_depend_on_seed_step_and_row_alone() -> None:
    rows = np.arange(10)
    draws = row_draws(rows, 32, seed=7, step=3)
    np.testing.assert_array_equal(draws[:, [8, 2]], row_draws(np.array([8, 2]), 32, seed=7, step=3))
    flat = {float(value) for value in draws.ravel()}
    assert len(flat) == draws.size
    for other in (row_draws(rows, 32, seed=8, step=3), row_draws(rows, 32, seed=7, step=4)):
        assert not flat & {float(value) for value in other.ravel()}


def _terms(marked: np.ndarray[Any, Any]) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], marked.astype(int), [0]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _term_lengths(marked: np.ndarray[Any, Any]) -> list[int]:
    return [stop - start for start, stop in _terms(marked)]
