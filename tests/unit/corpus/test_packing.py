"""Packing loses no token, overfills no row, and leaves hardly a place empty."""

import numpy as np
import pytest
from clinical_modernbert.corpus.packing import pack, split_documents
from hypothesis import given
from hypothesis import strategies as st

lengths = st.lists(st.integers(1, 700), min_size=1, max_size=80)
row_lengths = st.sampled_from([16, 64, 128])


@given(lengths=lengths, row_length=row_lengths)
def test_pieces_cover_every_token_once_in_order(lengths: list[int], row_length: int) -> None:
    pieces = split_documents(np.array(lengths), row_length=row_length)
    places = [range(s, s + n) for s, n in zip(pieces.start, pieces.length, strict=True)]
    assert [t for place in places for t in place] == list(range(sum(lengths)))
    assert pieces.length.max() <= row_length - 2
    document_of_token = np.repeat(np.arange(len(lengths)), lengths)
    assert all((document_of_token[list(place)] == d).all() for place, d in zip(places, pieces.document, strict=True))


@given(lengths=lengths, row_length=row_lengths)
def test_pieces_are_full_but_for_the_last_two_and_no_stump_is_left(lengths: list[int], row_length: int) -> None:
    pieces = split_documents(np.array(lengths), row_length=row_length)
    for document, whole in enumerate(lengths):
        mine = pieces.length[pieces.document == document]
        assert (mine[:-2] == row_length - 2).all()
        assert mine[-1] >= min(whole, 16, row_length // 2 - 1)


@given(lengths=st.lists(st.integers(1, 126), min_size=1, max_size=200))
def test_every_piece_lies_in_one_row_that_it_fits(lengths: list[int]) -> None:
    rows = pack(np.array(lengths), row_length=128)
    assert sorted(piece for row in rows for piece in row) == list(range(len(lengths)))
    assert all(sum(lengths[piece] + 2 for piece in row) <= 128 for row in rows)


def test_rows_are_nearly_full_for_texts_of_all_lengths() -> None:
    rng = np.random.default_rng(0)
    pieces = split_documents(rng.integers(5, 400, size=20_000), row_length=128)
    rows = pack(pieces.length, row_length=128)
    fill = (pieces.length + 2).sum() / (128 * len(rows))
    assert fill > 0.99


def test_a_piece_longer_than_a_row_is_refused() -> None:
    with pytest.raises(ValueError, match="needs 129 places"):
        pack(np.array([127]), row_length=128)
