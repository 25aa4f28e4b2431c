"""The frozen evaluation masks: they may never change, or no two results can be compared."""

import hashlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from clinical_modernbert.masking import MASK_KINDS, MaskKind, evaluation_mask, mask_probabilities

# sha256 of np.packbits(mask) in the test below. A new value here makes every earlier evaluation void.
GOLDEN = {
    "uniform": "488c19dd970cf886aadf22b7c894adf552833b06edb15a46b483b17e12848690",
    "entity": "867ebfff25e03d3155b90df746fda5eface2f5b537e0e4667d539416ab4edeb7",
}


def _mask(kind: MaskKind, rows: Any) -> Any:
    return evaluation_mask(
        kind, salient_RL=rows.salient, maskable_RL=rows.maskable, rows_R=np.arange(1000, 1000 + len(rows.ids))
    )


@pytest.mark.parametrize("kind", MASK_KINDS)
def test_the_masks_are_frozen(kind: MaskKind) -> None:
    # By arithmetic, without a generator whose stream could change.
    column, row = np.meshgrid(np.arange(128), np.arange(64))
    maskable = (column % 127 != 0) & ((column + row) % 41 != 0)
    salient = (column * 7 + row * 3) % 23 < 5
    mask = evaluation_mask(kind, salient_RL=salient, maskable_RL=maskable, rows_R=np.arange(64))
    assert hashlib.sha256(np.packbits(mask).tobytes()).hexdigest() == GOLDEN[kind]


def test_the_uniform_mask_hides_fifteen_percent_of_all_tokens_alike(make_rows: Callable[..., Any]) -> None:
    rows = make_rows(1000, 128, salient_share=0.3, seed=1)
    hidden = _mask("uniform", rows)
    assert not (hidden & ~rows.maskable).any()
    for group in (rows.salient, rows.maskable & ~rows.salient):
        num = group.sum()
        assert hidden[group].mean() == pytest.approx(0.15, abs=5 * math.sqrt(0.15 * 0.85 / num))


def test_the_entity_mask_hides_fifteen_percent_of_clinical_tokens_as_whole_terms_and_no_others(
    make_rows: Callable[..., Any],
) -> None:
    rows = make_rows(1000, 128, salient_share=0.3, seed=2)
    hidden = _mask("entity", rows)
    assert not (hidden & ~rows.salient).any()
    edges = np.diff(np.pad(rows.salient, ((0, 0), (1, 1))).astype(int), axis=1)
    lengths, whole = [], True
    for row in range(len(rows.ids)):
        for start, stop in zip(np.flatnonzero(edges[row] == 1), np.flatnonzero(edges[row] == -1), strict=True):
            lengths.append(int(stop - start))
            whole &= bool(hidden[row, start:stop].all()) or not hidden[row, start:stop].any()
    assert whole
    error = math.sqrt(sum(n**2 for n in lengths) * 0.15 * 0.85) / sum(lengths)
    assert hidden[rows.salient].mean() == pytest.approx(0.15, abs=5 * error)


def test_the_two_masks_are_drawn_apart(make_rows: Callable[..., Any]) -> None:
    rows = make_rows(500, 128, salient_share=1.0, seed=3)
    both = (_mask("uniform", rows) & _mask("entity", rows))[rows.salient].mean()
    assert both == pytest.approx(0.15**2, abs=0.02)


def test_a_row_without_clinical_tokens_has_an_empty_entity_mask(make_rows: Callable[..., Any]) -> None:
    rows = make_rows(20, 64, salient_share=0.0, seed=4)
    assert not _mask("entity", rows).any()
    assert mask_probabilities(np.array([0]), np.array([0]), rate=0.15, odds=1.0)[0][0] == 0.0
