"""Packing 20,000 texts of mixed lengths into rows of 1,024, against greedy best fit over a buffer as ModernBERT's packer does.

The peer implements the idea of its GreedyBestFitSequencePacker: sequences come in the corpus's order, each goes into the
fullest open row of a batch that has room for it, and a row is closed when a sequence fits into none. It gets texts that were
cut after 1,022 tokens, also inside a sentence; ours cuts at the ends of sentences. The check proves that no token is lost, and
reports the fill at 128, 1,024 and 8,192 for generated lengths and for the real notes and abstracts below ``CLINICAL_DATA``, the
last row included.
"""

import bisect
from pathlib import Path
from typing import Any

import numpy as np
from clinical_modernbert.corpus.cut_points import SECTION_END, SENTENCE_END, WORD_END, token_ends
from clinical_modernbert.corpus.encoding import WordEncoder
from clinical_modernbert.corpus.packing import Segments, pack_documents
from clinical_modernbert.recipe.corpus import TokenizerSection
from clinical_modernbert.tokenizer import build_tokenizer
from numpy.typing import NDArray

from benchmarks.harness import Row
from benchmarks.kits.real_texts import real_texts

_ROW = 1024
_OPEN_ROWS = 64
_SENTENCE_TOKENS = (8, 40)


def build(scratch: Path) -> Row:
    """Return the row; nothing is written to ``scratch``."""
    rng = np.random.default_rng(0)
    short, abstracts = rng.integers(20, 41, 60_000), rng.lognormal(5.5, 0.4, 6000).astype(int)
    notes, middle = rng.lognormal(7, 0.6, 2000).astype(int), rng.integers(500, 771, 4000)
    mixed = np.concatenate([short[:10_000], rng.lognormal(5.5, 0.5, 8000).astype(int), notes])
    rng.shuffle(mixed)
    ends = generated_ends(mixed)
    longest = _ROW - 2
    cut = np.array([min(longest, n - at) for n in mixed.tolist() for at in range(0, n, longest)])

    def check() -> dict[str, Any]:
        generated = {"short": short, "abstracts": abstracts, "notes": notes, "notes_500_770": middle, "mixed": mixed}
        cases = {name: (lengths, generated_ends(lengths)) for name, lengths in generated.items()}
        cases |= {f"real_{name}": _tokenised(texts) for name, texts in real_texts().items()}
        facts: dict[str, Any] = {}
        for name, (lengths, found) in cases.items():
            for row_length in (128, _ROW, 8192):
                facts[f"{name}_{row_length}"] = _account(lengths, found, row_length)
        peer = best_fit(cut, row_length=_ROW)
        if sorted(piece for row in peer for piece in row) != list(range(len(cut))):
            raise AssertionError("the peer lost or repeated a piece")
        facts["fill_peer"] = float((cut + 2).sum() / (_ROW * len(peer)))
        return facts

    def ours() -> int:
        return int(pack_documents(mixed, row_length=_ROW, ends_N=ends)[0].length.sum())

    def other() -> int:
        best_fit(cut, row_length=_ROW)
        return int(cut.sum())

    return Row(
        name="packing", unit="tokens", peer="greedy-best-fit (re-implemented)", check=check, ours=ours, other=other,
        target=">= 99.5 % fill, >= 1 M tokens/s, no token lost",
    )  # fmt: skip


def generated_ends(lengths_D: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return ends of sentences of 8 to 39 tokens and of words between them."""
    rng = np.random.default_rng(1)
    ends = np.where(rng.random(lengths_D.sum()) < 0.7, WORD_END, 0).astype(np.uint8)
    places = np.cumsum(rng.integers(*_SENTENCE_TOKENS, len(ends) // _SENTENCE_TOKENS[0]))
    ends[places[places < len(ends)]] = SENTENCE_END
    ends[np.cumsum(lengths_D) - 1] = SECTION_END
    return ends


def _tokenised(texts: list[str]) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    tokenizer = build_tokenizer(TokenizerSection(base="train", vocabulary_size=16_384), texts, clinical_words=set())
    encoded = WordEncoder(tokenizer).encode(texts)
    return encoded.lengths_D, token_ends(texts, encoded, np.empty((0, 2), dtype=np.int64))


def _account(lengths_D: NDArray[np.int64], ends_N: NDArray[np.uint8], row_length: int) -> dict[str, float]:
    segments, rows = pack_documents(lengths_D, row_length=row_length, ends_N=ends_N)
    _raise_where_lost(segments, rows, int(lengths_D.sum()), row_length)
    places, last = int((segments.length + 2).sum()), ends_N[segments.start + segments.length - 1]
    num_cut = len(segments.length) - int((lengths_D > 0).sum())
    return {
        "fill": places / (row_length * len(rows)),
        "fill_without_last_row": min(places / (row_length * max(len(rows) - 1, 1)), 1.0),
        "rows": len(rows),
        "segments_a_row": len(segments.length) / len(rows),
        "cuts": num_cut,
        "cuts_at_words": int((last == WORD_END).sum()),
        "cuts_within_words": int((last < WORD_END).sum()),
    }


def _raise_where_lost(segments: Segments, rows: list[list[int]], num_tokens: int, row_length: int) -> None:
    order = np.argsort(segments.start)
    begins = segments.start[order]
    if (
        begins != np.cumsum(segments.length[order]) - segments.length[order]
    ).any() or segments.length.sum() != num_tokens:
        raise AssertionError("a token was lost or repeated")
    if sorted(segment for row in rows for segment in row) != list(range(len(begins))):
        raise AssertionError("a segment was lost or repeated")
    if any(int((segments.length[row] + 2).sum()) > row_length for row in rows):
        raise AssertionError("a row is overfull")


def best_fit(pieces: np.ndarray, *, row_length: int) -> list[list[int]]:
    """Return rows filled in order of arrival, each piece into the open row with the least space that takes it."""
    done: list[list[int]] = []
    spaces: list[tuple[int, int]] = []
    open_rows: dict[int, list[int]] = {}
    for piece, length in enumerate((pieces + 2).tolist()):
        at = bisect.bisect_left(spaces, (length, -1))
        if at < len(spaces):
            space, row = spaces.pop(at)
        else:
            if len(spaces) == _OPEN_ROWS:
                done.append(open_rows.pop(spaces.pop(0)[1]))
            space, row = row_length, piece
            open_rows[row] = []
        open_rows[row].append(piece)
        bisect.insort(spaces, (space - length, row))
    return done + list(open_rows.values())
