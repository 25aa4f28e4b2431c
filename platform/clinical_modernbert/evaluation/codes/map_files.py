"""The files of a code map: codes with their places and cards, the whole table, vectors, labels, and what the explorer searches.

Legend: N codes on the map, K neighbours, D width.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from clinical_modernbert.evaluation.codes.code_set import CodeSet
from clinical_modernbert.evaluation.codes.labels import label_paths, map_labels
from clinical_modernbert.evaluation.codes.places import code_paths, counterparts
from clinical_modernbert.evaluation.codes.search_terms import search_terms
from clinical_modernbert.recipe.terms import TermSource

NEIGHBOURS_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Placed:
    """What is known of each code on the map."""

    xy_N2: NDArray[np.float32]
    held_out_N: NDArray[np.bool_]
    neighbours_NK: NDArray[np.int32]
    """Rows of the nearest codes in the original space, nearest first."""
    similarities_NK: NDArray[np.float32]
    vectors_ND: NDArray[np.float32]


def write_map(
    folder: Path,
    codes: CodeSet,
    placed: Placed,
    *,
    report: Mapping[str, object],
    synonyms: Sequence[TermSource] = (),
) -> None:
    """Write the files of a map into ``folder``."""
    paths = code_paths(codes.table, codes.entries)
    pq.write_table(_table(codes, placed, paths), folder / "codes.parquet", compression="zstd")
    pq.write_table(_whole_table(codes), folder / "table.parquet", compression="zstd")
    _write_json(search_terms(codes.table, codes.whole, synonyms), folder / "search.json")
    _write_json(map_labels(label_paths(codes, paths), placed.xy_N2), folder / "labels.json")
    np.save(folder / "vectors.npy", placed.vectors_ND, allow_pickle=False)
    (folder / "report.json").write_text(json.dumps(report, indent=1), encoding="utf-8")


def _table(codes: CodeSet, placed: Placed, paths: list[list[str]]) -> pa.Table:
    entries = codes.entries
    return pa.table(
        {
            "code": [entry.code for entry in entries],
            "description": codes.descriptions,
            "chapter_id": [entry.chapter_id for entry in entries],
            "chapter": [entry.chapter for entry in entries],
            "x": pa.array(placed.xy_N2[:, 0], pa.float32()),
            "y": pa.array(placed.xy_N2[:, 1], pa.float32()),
            "held_out": placed.held_out_N,
            "path": pa.array(paths, pa.list_(pa.string())),
            "crosswalk": pa.array(counterparts(codes.table, entries), pa.list_(pa.string())),
            "neighbours": pa.array(placed.neighbours_NK.tolist(), pa.list_(pa.int32())),
            "similarities": pa.array(placed.similarities_NK.tolist(), pa.list_(pa.float32())),
        }
    )


def _whole_table(codes: CodeSet) -> pa.Table:
    """Return every code of the table, with its row on the map; null where the sample left it out."""
    rows = {entry.code: row for row, entry in enumerate(codes.entries)}
    return pa.table(
        {
            "code": [entry.code for entry in codes.whole],
            "description": [entry.description for entry in codes.whole],
            "chapter_id": [entry.chapter_id for entry in codes.whole],
            "chapter": [entry.chapter for entry in codes.whole],
            "row": pa.array([rows.get(entry.code) for entry in codes.whole], pa.int32()),
            "crosswalk": pa.array(counterparts(codes.table, codes.whole), pa.list_(pa.string())),
        }
    )


def _write_json(value: object, path: Path) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")
