"""Names for regions of a code map: chapters, blocks and categories, each at the place where most of its codes are.

A name is placed where its codes are densest, not at their mean: a scattered group's mean is often an empty region.
"""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from clinical_modernbert.evaluation.codes.code_set import CodeSet
from clinical_modernbert.evaluation.codes.search_terms import category_titles
from clinical_modernbert.sources.codes.ccs import ccs_location, read_ccs

_CELLS = 48
_LEAST_CODES = 3
_MOST_LETTERS = 38
_OPENING = re.compile(
    r"^(?:certain |diseases of (?:the )?|supplementary classification of |complications of )+", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Label:
    """One name on the map."""

    text: str
    level: int
    """0 for a chapter, then its blocks and categories."""
    x: float
    y: float
    count: int
    """Codes of the group on the map; larger groups are placed first."""


def map_labels(
    paths: Sequence[Sequence[str]], xy_N2: NDArray[np.float32], *, depth: int = 3
) -> list[dict[str, object]]:
    """Return the labels of the first ``depth`` headings of each code, the largest group first, as JSON."""
    low, high = xy_N2.min(axis=0), xy_N2.max(axis=0)
    scaled_N2 = (xy_N2 - low) / np.maximum(high - low, 1e-9)
    cell_N2 = np.minimum((scaled_N2 * _CELLS).astype(np.int64), _CELLS - 1)
    labels: list[Label] = []
    for level in range(max(map(len, paths), default=0)):
        groups: dict[tuple[str, ...], list[int]] = {}
        for row, path in enumerate(paths):
            if level < len(path) and path[level]:
                groups.setdefault(tuple(path[: level + 1]), []).append(row)
        for (*_, text), rows in groups.items():
            if len(rows) >= _LEAST_CODES:
                x, y = xy_N2[_densest(cell_N2[rows], rows)].mean(axis=0)
                labels.append(Label(text, level, float(x), float(y), len(rows)))
    labels.sort(key=lambda label: (label.level, -label.count, label.text))
    return [asdict(label) for label in labels]


def label_paths(codes: CodeSet, paths: Sequence[Sequence[str]]) -> list[list[str]]:
    """Return chapter, block (ICD-9-CM: AHRQ's group) and category of each code, as short titles."""
    if codes.table == "icd10cm":
        return [[_short(step.partition(" ")[2]) for step in path[:3]] for path in paths]
    groups, titles = read_ccs(ccs_location()), category_titles(codes.entries)
    return [
        [_short(entry.chapter), _short(groups[entry.code]), _short(titles.get(entry.code.partition(".")[0], ""))]
        if entry.code in groups
        else [_short(entry.chapter)]
        for entry in codes.entries
    ]


def _short(title: str) -> str:
    """Cut what a reader of a map does not need: "Diseases of the eye and adnexa" becomes "Eye and adnexa"."""
    words = _OPENING.sub("", title)
    if len(words) > _MOST_LETTERS:
        words = re.split(r"[,;(\[]", words)[0].strip()
    if len(words) > _MOST_LETTERS:
        words = words[:_MOST_LETTERS].rsplit(" ", 1)[0] + "…"
    return words[:1].upper() + words[1:]


def _densest(cell_M2: NDArray[np.int64], rows: Sequence[int]) -> NDArray[np.intp]:
    """Return the rows in the fullest cell; a cell counts its eight neighbours too."""
    count = np.zeros((_CELLS + 2, _CELLS + 2))
    np.add.at(count, (cell_M2[:, 0] + 1, cell_M2[:, 1] + 1), 1.0)
    around = np.zeros_like(count)
    for dx, dy in np.ndindex(3, 3):
        around += np.roll(count, (dx - 1, dy - 1), axis=(0, 1))
    score_M = around[cell_M2[:, 0] + 1, cell_M2[:, 1] + 1] + count[cell_M2[:, 0] + 1, cell_M2[:, 1] + 1]
    best = cell_M2[int(score_M.argmax())]
    near_M = (np.abs(cell_M2 - best) <= 1).all(axis=1)
    return np.asarray(rows)[near_M]
