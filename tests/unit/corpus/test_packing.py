"""Packing loses no token, overfills no row, cuts where sentences end, and leaves hardly a place empty."""

import numpy as np
import pytest
from clinical_modernbert.corpus.cut_points import NO_END, SECTION_END, SENTENCE_END, WORD_END
from clinical_modernbert.corpus.packing import Segments, pack_documents
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

lengths = st.lists(st.integers(0, 700), min_size=1, max_size=60)
row_lengths = st.sampled_from([16, 64, 128])


def ends_for(lengths: NDArray[np.int64], *, seed: int = 0) -> NDArray[np.uint8]:
    """Sentences of 8 to 39 tokens; seven of ten other tokens end a word."""
    rng = np.random.default_rng(seed)
    ends = np.where(rng.random(lengths.sum()) < 0.7, WORD_END, NO_END).astype(np.uint8)
    places = np.cumsum(rng.integers(8, 40, size=len(ends) // 8 + 1))
    ends[places[places < len(ends)]] = SENTENCE_END
    ends[np.cumsum(lengths)[lengths > 0] - 1] = SECTION_END
    return ends


def fill(segments: Segments, rows: list[list[int]], row_length: int) -> float:
    return float((segments.length + 2).sum() / (row_length * len(rows)))


@given(lengths=lengths, row_length=row_lengths, copies=st.integers(0, 3), with_ends=st.booleans())
@settings(max_examples=30, deadline=None)
def test_every_token_of_every_copy_is_in_one_row_that_it_fits(
    lengths: list[int], row_length: int, copies: int, with_ends: bool
) -> None:
    lengths_D = np.array(lengths)
    copies_D = np.full(len(lengths), 1)
    copies_D[0] = copies
    segments, rows = pack_documents(
        lengths_D, row_length=row_length, ends_N=ends_for(lengths_D) if with_ends else None, copies_D=copies_D
    )
    places = [range(s, s + n) for s, n in zip(segments.start, segments.length, strict=True)]
    times = np.bincount([t for place in places for t in place], minlength=sum(lengths))
    assert (times == np.repeat(copies_D, lengths_D)).all()
    assert sorted(segment for row in rows for segment in row) == list(range(len(places)))
    assert all(sum(int(segments.length[segment]) + 2 for segment in row) <= row_length for row in rows)
    document_of_token = np.repeat(np.arange(len(lengths)), lengths)
    assert all((document_of_token[list(place)] == d).all() for place, d in zip(places, segments.document, strict=True))


@given(lengths=lengths, row_length=row_lengths)
@settings(max_examples=30, deadline=None)
def test_a_cut_leaves_no_stump(lengths: list[int], row_length: int) -> None:
    lengths_D = np.array(lengths)
    segments, _ = pack_documents(lengths_D, row_length=row_length, ends_N=ends_for(lengths_D))
    for document, length in zip(segments.document.tolist(), segments.length.tolist(), strict=True):
        assert length >= min(lengths[document], 16, (row_length - 2) // 2)


def test_the_example_of_the_modules_docstring() -> None:
    texts = {
        "A": (18, ()),
        "B": (20, ()),
        "C": (70, (24, 46, 52)),
        "D": (42, (16,)),
        "E": (18, ()),
        "F": (56, (16, 18)),
    }
    lengths = np.array([length for length, _ in texts.values()])
    starts = np.cumsum(lengths) - lengths
    ends = np.full(lengths.sum(), WORD_END, dtype=np.uint8)
    for start, (_, sentences) in zip(starts, texts.values(), strict=True):
        ends[[start + end - 1 for end in sentences]] = SENTENCE_END
    ends[np.cumsum(lengths) - 1] = SECTION_END
    segments, rows = pack_documents(lengths, row_length=64, ends_N=ends)
    begins = segments.start - starts[segments.document]
    named = [
        f"{list(texts)[document]} {begin}-{begin + length}"
        for document, begin, length in zip(segments.document, begins, segments.length, strict=True)
    ]
    assert [[named[segment] for segment in row] for row in rows] == [
        ["E 0-18", "D 0-42"], ["C 0-24", "A 0-18", "F 0-16"], ["F 16-56", "B 0-20"], ["C 24-70"],
    ]  # fmt: skip


GENERATOR = np.random.default_rng(0)
CASES = {
    "texts of 20 to 40 tokens": GENERATOR.integers(20, 41, 6_000),
    "abstracts": GENERATOR.lognormal(5.5, 0.4, 1000).astype(int) + 10,
    "long notes": GENERATOR.lognormal(7, 0.6, 300).astype(int) + 10,
    "notes of 500 to 770 tokens": GENERATOR.integers(500, 771, 500),
}


@pytest.mark.parametrize("name", CASES)
def test_rows_are_full_and_nearly_all_cuts_are_at_ends_of_sentences(name: str) -> None:
    lengths = CASES[name]
    ends = ends_for(lengths)
    for row_length in (128, 1024, 8192):
        segments, rows = pack_documents(lengths, row_length=row_length, ends_N=ends)
        # The last row takes what is left.
        used = [int((segments.length[row] + 2).sum()) for row in rows[:-1]]
        assert sum(used) >= 0.995 * row_length * len(used)
        last = ends[segments.start + segments.length - 1]
        assert (last >= SENTENCE_END).mean() > 0.995
        assert (last >= WORD_END).all()


def test_without_sentences_cuts_fall_between_words_and_without_words_at_the_row() -> None:
    lengths = np.full(300, 401)
    ends = np.where(np.arange(lengths.sum()) % 3 == 0, WORD_END, NO_END).astype(np.uint8)
    ends[np.cumsum(lengths) - 1] = SECTION_END
    segments, rows = pack_documents(lengths, row_length=128, ends_N=ends)
    assert (ends[segments.start + segments.length - 1] >= WORD_END).all() and fill(segments, rows, 128) > 0.99
    ends[:] = NO_END
    segments, rows = pack_documents(lengths, row_length=128, ends_N=ends)
    assert fill(segments, rows, 128) > 0.99


def test_texts_too_short_to_cut_stay_whole_and_a_note_that_fits_is_cut_only_to_fill_a_row() -> None:
    lengths = np.concatenate([np.full(200, 100), np.random.default_rng(1).integers(300, 700, 800)])
    segments, _ = pack_documents(lengths, row_length=1024, ends_N=ends_for(lengths))
    num_segments = np.bincount(segments.document)
    assert (num_segments[:200] == 1).all()  # below two segments of 64
    assert num_segments[200:].max() > 1 and (num_segments == 1).mean() > 0.5


def test_the_same_documents_give_the_same_rows() -> None:
    lengths = CASES["abstracts"][:300]
    first, second = (pack_documents(lengths, row_length=128, ends_N=ends_for(lengths)) for _ in range(2))
    assert (first[0].start == second[0].start).all() and first[1] == second[1]


def test_ends_of_another_number_of_tokens_are_refused() -> None:
    with pytest.raises(ValueError, match="ends_N has 3 tokens, the documents have 5"):
        pack_documents(np.array([5]), row_length=16, ends_N=np.zeros(3, dtype=np.uint8))


def test_a_text_whose_words_end_out_of_reach_is_cut_within_one() -> None:
    ends_N = np.zeros(130, dtype=np.uint8)
    ends_N[[124, 129]] = WORD_END
    segments, rows = pack_documents(np.array([130]), row_length=128, ends_N=ends_N)
    assert segments.length.sum() == 130 and max(segments.length) <= 126 and len(rows) == 2
