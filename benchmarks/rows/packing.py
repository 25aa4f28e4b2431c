"""Packing 20,000 texts of mixed lengths into rows of 1,024, against greedy best fit over a buffer as ModernBERT's packer does.

The idea of its GreedyBestFitSequencePacker is implemented here: sequences are drawn in the corpus's order, each goes into the
fullest open row of a batch that still takes it; a row is closed when a sequence fits none. The check holds the fill of both.
"""

import bisect
from pathlib import Path
from typing import Any

import numpy as np
from clinical_modernbert.corpus.packing import pack, split_documents

from benchmarks.harness import Row

_ROW = 1024
_OPEN_ROWS = 64


def build(scratch: Path) -> Row:
    """Return the row; nothing is written to ``scratch``."""
    rng = np.random.default_rng(0)
    lengths = np.concatenate(
        [
            rng.integers(20, 41, 10_000),
            rng.lognormal(5.5, 0.5, 8_000).astype(int),
            rng.lognormal(7, 0.6, 2_000).astype(int),
        ]
    )
    rng.shuffle(lengths)
    pieces = split_documents(lengths, row_length=_ROW).length

    def check() -> dict[str, Any]:
        fills = {}
        for name, rows in {"ours": pack(pieces, row_length=_ROW), "peer": best_fit(pieces, row_length=_ROW)}.items():
            if sorted(piece for row in rows for piece in row) != list(range(len(pieces))):
                raise AssertionError(f"{name} lost or repeated a piece")
            fills[f"fill_{name}"] = float((pieces + 2).sum() / (_ROW * len(rows)))
        if fills["fill_ours"] < 0.995:
            raise AssertionError(f"rows are filled to {fills['fill_ours']:.4f}, below 0.995")
        short = np.random.default_rng(1).integers(20, 41, 60_000)
        for row_length in (128, 1024, 8192):
            rows = pack(short, row_length=row_length)
            fills[f"fill_ours_short_{row_length}"] = float((short + 2).sum() / (row_length * len(rows)))
        return fills

    def ours() -> int:
        pack(pieces, row_length=_ROW)
        return int(pieces.sum())

    def other() -> int:
        best_fit(pieces, row_length=_ROW)
        return int(pieces.sum())

    return Row(
        name="packing", unit="tokens", peer="greedy-best-fit (re-implemented)", check=check, ours=ours, other=other,
        target=">= 99.5 % fill, >= 1 M tokens/s, no token lost",
    )  # fmt: skip


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
