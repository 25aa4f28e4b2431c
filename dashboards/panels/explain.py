"""How one group of rows differs from another: shares of values, and words. Pure functions over Arrow columns.

A row counts once for a word, however often it has it. Each word, and each value, is tested by Fisher's exact test and the
p values are corrected for the number of tests (Benjamini and Hochberg 1995), so a random group shows nothing.
"""

import re
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.stats import false_discovery_control, hypergeom

_WORD = re.compile(r"[^\W\d_]{3,}")
_LEAST_ROWS = 5
FALSE_DISCOVERIES = 0.05
"""Expected share of listed words, or values, that do not differ."""

Rows = NDArray[np.intp]


def shares(values: pa.ChunkedArray, ours: Rows, others: Rows, *, floor: int = 1) -> pa.Table:
    """Return each value's count in the group and its share in both, largest difference first.

    ``beyond chance`` is the corrected test. A value with a count below ``floor`` in either group is not listed.
    """
    first, second = _counts(values, ours), _counts(values, others)
    names = [
        name for name in first | second if min(count for count in (first[name], second[name], floor) if count) >= floor
    ]
    differ = _differ([first[name] for name in names], [second[name] for name in names], len(ours), len(others))
    lines = [
        (name, first[name], first[name] / max(len(ours), 1), second[name] / max(len(others), 1), bool(beyond))
        for name, beyond in zip(names, differ, strict=True)
    ]
    lines.sort(key=lambda line: (-abs(line[2] - line[3]), line[0]))
    columns = list(zip(*lines, strict=True)) or [()] * 5
    return pa.table(
        {
            "value": pa.array(columns[0], pa.string()),
            "in the group": pa.array(columns[1], pa.int64()),
            "share": pa.array(columns[2], pa.float64()),
            "share in the other": pa.array(columns[3], pa.float64()),
            "beyond chance": pa.array(columns[4], pa.bool_()),
        }
    )


def terms(texts: pa.ChunkedArray, ours: Rows, others: Rows) -> pa.Table:
    """Return the words that more rows of the group have than chance explains, the largest difference of shares first."""
    first, second = _words(texts, ours), _words(texts, others)
    words = [word for word in first if first[word] >= _LEAST_ROWS]
    more = _differ(
        [first[word] for word in words], [second[word] for word in words], len(ours), len(others), one_sided=True
    )
    lines = [
        (word, first[word] / len(ours), second[word] / max(len(others), 1), first[word])
        for word, beyond in zip(words, more, strict=True)
        if beyond
    ]
    lines.sort(key=lambda line: (line[2] - line[1], line[0]))
    columns = list(zip(*lines, strict=True)) or [()] * 4
    return pa.table(
        {
            "word": pa.array(columns[0], pa.string()),
            "in the group": pa.array(columns[3], pa.int64()),
            "share": pa.array(columns[1], pa.float64()),
            "share in the other": pa.array(columns[2], pa.float64()),
        }
    )


def _differ(
    ours: list[int], others: list[int], size_ours: int, size_others: int, *, one_sided: bool = False
) -> NDArray[np.bool_]:
    """Return which counts differ beyond chance, all tested together."""
    if not ours or not size_ours or not size_others:
        return np.zeros(len(ours), bool)
    a = np.asarray(ours)
    law = hypergeom(size_ours + size_others, a + np.asarray(others), size_ours)
    p = law.sf(a - 1)
    if not one_sided:
        p = 2 * np.minimum(p, law.cdf(a))
    found: NDArray[np.bool_] = false_discovery_control(np.clip(p, 0, 1)) <= FALSE_DISCOVERIES
    return found


def _counts(values: pa.ChunkedArray, rows: Rows) -> Counter[str]:
    found = pc.value_counts(pc.fill_null(values.take(pa.array(rows)), "no value"))
    return Counter({item["values"]: item["counts"] for item in found.to_pylist()})


def _words(texts: pa.ChunkedArray, rows: Rows) -> Counter[str]:
    counter: Counter[str] = Counter()
    for text in texts.take(pa.array(rows)).to_pylist():
        counter.update({word.lower() for word in _WORD.findall(text or "")})
    return counter
