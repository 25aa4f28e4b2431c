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
    """Return the codes whose nearest codes changed most, and their rows.

    The fewest common neighbours come first. Among equals those come first whose neighbours differ more in kind: by the change of
    the share of their place in the classification that a code has in common with its nearest codes. What is still equal is
    ordered by how close the nearest codes are: a near neighbour that was lost is a larger change than a distant one.
    """
    code = pair.first["code"].to_numpy(zero_copy_only=False)
    kind_N = np.abs(_kinship(pair.first, pair.near_first_NK) - _kinship(pair.first, pair.near_second_NK))
    close_N = _closeness(pair.first) + _closeness(pair.second)
    rows = np.lexsort((code, -close_N, -kind_N, pair.overlap_N))[:most]
    table = pa.table(
        {
            "code": code[rows],
            "description": pair.first["description"].take(pa.array(rows)),
            "overlap": pair.overlap_N[rows],
            "change of kind": kind_N[rows],
            "nearest left": [_names(code, pair.near_first_NK[row]) for row in rows],
            "nearest right": [_names(code, pair.near_second_NK[row]) for row in rows],
        }
    )
    return table, rows.tolist()


def _kinship(codes: pa.Table, near_NK: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return [N] how much of the path a code shares with its nearest codes on average, from 0 to 1."""
    deepest = pc.max(pc.list_value_length(codes["path"])).as_py() or 0
    shared = np.zeros(near_NK.shape)
    for depth in range(deepest):
        steps = [path[depth] if len(path) > depth else None for path in codes["path"].to_pylist()]
        step_N = np.unique([step or "" for step in steps], return_inverse=True)[1]
        named_N = np.array([step is not None for step in steps])
        shared += (step_N[near_NK] == step_N[:, None]) & named_N[:, None] & (near_NK != _ABSENT)
    kin: NDArray[np.float64] = shared.sum(axis=1) / np.maximum((near_NK != _ABSENT).sum(axis=1), 1) / max(deepest, 1)
    return kin


def _closeness(codes: pa.Table) -> NDArray[np.float64]:
    """Return [N] the rank, from 0 to 1, of a code's mean similarity to its nearest codes: two models' cosines differ in scale."""
    mean_N = np.array([np.mean(some) if some else 0.0 for some in codes["similarities"].to_pylist()])
    rank_N: NDArray[np.float64] = np.searchsorted(np.sort(mean_N), mean_N) / max(len(mean_N), 1)
    return rank_N


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
