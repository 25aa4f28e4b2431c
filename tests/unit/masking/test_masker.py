"""What the training masks do to ids: never a special token, 80/10/10, the same for every split over workers."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from clinical_modernbert.masking import Masker, TokenRanges, corrupt
from clinical_modernbert.recipe.pretrain import MaskingSection
from hypothesis import given
from hypothesis import strategies as st


def _masker(vocabulary: TokenRanges, *, seed: int = 0, **section: Any) -> Masker:
    return Masker(section=MaskingSection(**section), tokens=vocabulary, num_steps=100, seed=seed)


def _mask(masker: Masker, rows: Any, *, step: int = 10, numbers: Any = None) -> tuple[Any, Any]:
    numbers = np.arange(len(rows.ids)) if numbers is None else numbers
    return masker.mask(rows.ids, salient_RL=rows.salient, valid_RL=rows.valid, rows_R=numbers, step=step)


@pytest.mark.parametrize("strategy", ["token_aware", "uniform"])
def test_special_tokens_and_padding_are_never_selected_and_nothing_else_changes(
    vocabulary: TokenRanges, make_rows: Callable[..., Any], strategy: str
) -> None:
    rows = make_rows(200, 128, salient_share=0.3, seed=1)
    # Even where the corpus called everything clinical.
    everything = type(rows)(ids=rows.ids, salient=np.ones_like(rows.salient), valid=rows.valid)
    for given_rows in (rows, everything):
        ids, selected = _mask(_masker(vocabulary, strategy=strategy, rate_start=0.9, rate_end=0.9), given_rows)
        assert selected.any()
        assert not (selected & ~rows.maskable).any()
        np.testing.assert_array_equal(ids[~selected], rows.ids[~selected])


def test_eighty_ten_ten(vocabulary: TokenRanges, make_rows: Callable[..., Any]) -> None:
    rows = make_rows(2000, 128, salient_share=0.2, seed=2)
    ids, selected = _mask(_masker(vocabulary), rows)
    found, was = ids[selected], rows.ids[selected]
    num = len(found)
    # A random token is the old one by chance in 1 of 495.
    kept_by_chance = 0.1 / len(vocabulary.ordinary_ids)
    for share, expected in (
        ((found == vocabulary.mask_id).mean(), 0.8),
        (((found != vocabulary.mask_id) & (found != was)).mean(), 0.1 - kept_by_chance),
        ((found == was).mean(), 0.1 + kept_by_chance),
    ):
        assert share == pytest.approx(expected, abs=5 * math.sqrt(expected * (1 - expected) / num))


def test_random_tokens_are_ordinary_and_all_of_them_occur(vocabulary: TokenRanges) -> None:
    num = 200_000
    rng = np.random.default_rng(3)
    ids = np.full(num, 7)
    found = corrupt(
        ids, np.ones(num, dtype=bool), uniform=np.full(num, 0.85), choice=rng.random(num), tokens=vocabulary
    )
    assert set(found.tolist()) == set(vocabulary.ordinary_ids.tolist())
    last = corrupt(
        ids[:1],
        np.ones(1, dtype=bool),
        uniform=np.full(1, 0.85),
        choice=np.array([np.nextafter(1, 0)]),
        tokens=vocabulary,
    )
    assert last[0] == vocabulary.ordinary_ids[-1]


@pytest.mark.parametrize(("uniform", "expected"), [(0.0, 4), (0.7999, 4), (0.8, 5), (0.8999, 5), (0.9, 7), (0.9999, 7)])
def test_the_bounds_of_eighty_ten_ten(vocabulary: TokenRanges, uniform: float, expected: int) -> None:
    found = corrupt(
        np.array([7]), np.array([True]), uniform=np.array([uniform]), choice=np.array([0.0]), tokens=vocabulary
    )
    assert found.tolist() == [expected]


@given(data=st.data())
def test_masks_do_not_depend_on_how_rows_are_split_over_workers(data: st.DataObject) -> None:
    vocabulary = TokenRanges(mask_id=4, ordinary_ids=np.arange(5, 100), special_ids=np.arange(5))
    rng = np.random.default_rng(4)
    ids, salient = rng.integers(5, 100, (12, 40)), rng.random((12, 40)) < 0.3
    valid, masker = np.ones_like(salient), _masker(vocabulary, seed=5)
    whole = masker.mask(ids, salient_RL=salient, valid_RL=valid, rows_R=np.arange(12), step=9)
    order = np.array(data.draw(st.permutations(range(12))))
    cuts = sorted(data.draw(st.lists(st.integers(1, 11), unique=True, max_size=4)))
    for mine in np.split(order, cuts):
        part = masker.mask(ids[mine], salient_RL=salient[mine], valid_RL=valid[mine], rows_R=mine, step=9)
        np.testing.assert_array_equal(part[0], whole[0][mine])
        np.testing.assert_array_equal(part[1], whole[1][mine])


def test_masks_differ_by_seed_step_and_row(vocabulary: TokenRanges, make_rows: Callable[..., Any]) -> None:
    rows = make_rows(4, 256, salient_share=0.2, seed=6)
    first = _mask(_masker(vocabulary), rows)[1]
    np.testing.assert_array_equal(first, _mask(_masker(vocabulary), rows)[1])
    for other in (
        _mask(_masker(vocabulary, seed=1), rows)[1],
        _mask(_masker(vocabulary), rows, step=11)[1],
        _mask(_masker(vocabulary), rows, numbers=np.arange(4, 8))[1],
    ):
        assert (other != first).any(axis=1).all()


def test_the_uniform_strategy_ignores_what_is_clinical(vocabulary: TokenRanges, make_rows: Callable[..., Any]) -> None:
    rows = make_rows(50, 128, salient_share=0.4, seed=7)
    plain = type(rows)(ids=rows.ids, salient=np.zeros_like(rows.salient), valid=rows.valid)
    masker = _masker(vocabulary, strategy="uniform")
    np.testing.assert_array_equal(_mask(masker, rows)[1], _mask(masker, plain)[1])
    assert masker.odds(0) == 1, "what curves record"
