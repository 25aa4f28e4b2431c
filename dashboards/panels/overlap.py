"""How two maps of the same code table differ, by the nearest codes in each model's original space.

Legend: N codes that both maps have, K neighbours. Positions on the map are not used.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

_ABSENT = -1


@dataclass(frozen=True, slots=True)
class Pair:
    """Two maps reduced to their common codes, in the same order; neighbours are row numbers of this order."""

    first: pa.Table
    second: pa.Table
    near_first_NK: NDArray[np.int64]
    near_second_NK: NDArray[np.int64]
    """-1 where a neighbour is on one map only."""
    overlap_N: NDArray[np.float64]
    """Share of a code's K nearest codes that are the same on both maps."""

    @property
    def complete(self) -> bool:
        """Whether both maps hold the same codes, so that no neighbour is missing."""
        return bool((self.near_first_NK != _ABSENT).all() and (self.near_second_NK != _ABSENT).all())


def align(first: pa.Table, second: pa.Table) -> Pair:
    """Return the codes that both maps have, in the order of the first."""
    rows_first = pc.indices_nonzero(pc.is_in(first["code"], value_set=second["code"].combine_chunks()))
    common = first["code"].take(rows_first).combine_chunks()
    rows_second = pc.index_in(common, value_set=second["code"].combine_chunks())
    tables = first.take(rows_first), second.take(rows_second)
    near = [
        _common_rows(whole["code"], common)[np.stack(part["neighbours"].to_numpy(zero_copy_only=False))]
        if part.num_rows
        else np.empty((0, 1), np.int64)
        for whole, part in zip((first, second), tables, strict=True)
    ]
    k = min(part.shape[1] for part in near)
    near_first_NK, near_second_NK = near[0][:, :k], near[1][:, :k]
    same_NKK = (near_first_NK[:, :, None] == near_second_NK[:, None, :]) & (near_first_NK[:, :, None] != _ABSENT)
    return Pair(*tables, near_first_NK, near_second_NK, same_NKK.any(axis=2).mean(axis=1))


def by_chapter(pair: Pair) -> pa.Table:
    """Return each chapter's codes, its purity in both maps and its overlap; the largest difference comes first."""
    chapter_N = pair.first["chapter_id"].to_numpy(zero_copy_only=False)
    titles = dict(zip(chapter_N, pair.first["chapter"].to_pylist(), strict=True))
    own = [_purity(near, chapter_N) for near in (pair.near_first_NK, pair.near_second_NK)]
    lines = []
    for chapter_id in sorted(titles):
        of = chapter_N == chapter_id
        lines.append(
            {
                "chapter": f"{chapter_id} {titles[chapter_id]}",
                "codes": int(of.sum()),
                "purity left": float(own[0][of].mean()),
                "purity right": float(own[1][of].mean()),
                "difference": float(own[1][of].mean() - own[0][of].mean()),
                "overlap": float(pair.overlap_N[of].mean()),
            }
        )
    return pa.Table.from_pylist(sorted(lines, key=lambda line: -abs(float(line["difference"]))))


def moved_most(pair: Pair, *, most: int) -> tuple[pa.Table, list[int]]:
    """Return the codes whose nearest codes changed most, and their rows; the fewest common neighbours first, then by code."""
    code = pair.first["code"].to_numpy(zero_copy_only=False)
    rows = np.lexsort((code, pair.overlap_N))[:most]
    table = pa.table(
        {
            "code": code[rows],
            "description": pair.first["description"].take(pa.array(rows)),
            "overlap": pair.overlap_N[rows],
            "nearest left": [_names(code, pair.near_first_NK[row]) for row in rows],
            "nearest right": [_names(code, pair.near_second_NK[row]) for row in rows],
        }
    )
    return table, rows.tolist()


def present(near_K: NDArray[np.int64]) -> list[int]:
    """Return the neighbours that both maps hold."""
    return [int(row) for row in near_K if row != _ABSENT]


def _common_rows(codes: pa.ChunkedArray, common: pa.Array) -> NDArray[np.int64]:
    found = pc.fill_null(pc.index_in(codes.combine_chunks(), value_set=common), _ABSENT)
    return np.asarray(found.to_numpy(zero_copy_only=False), dtype=np.int64)


def _purity(near_NK: NDArray[np.int64], chapter_N: NDArray[np.object_]) -> NDArray[np.float64]:
    known_NK = near_NK != _ABSENT
    own_NK = (chapter_N[near_NK] == chapter_N[:, None]) & known_NK
    share: NDArray[np.float64] = own_NK.sum(axis=1) / np.maximum(known_NK.sum(axis=1), 1)
    return share


def _names(code: NDArray[np.object_], near_K: NDArray[np.int64]) -> str:
    return ", ".join(code[row] for row in present(near_K)[:5])
