"""How one group of rows differs from another: shares of values, and terms. Pure functions over Arrow columns.

Terms are ranked by the log-odds ratio with an informative Dirichlet prior, in standard errors (Monroe, Colaresi and Quinn 2008,
section 3.5): frequent words of both groups rank low, and a word seen once does not rank high.
"""

import re
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

_WORD = re.compile(r"[^\W\d_]{3,}")
_PRIOR_WORDS = 500.0
_LEAST_Z = 1.96

Rows = NDArray[np.intp]


def shares(values: pa.ChunkedArray, ours: Rows, others: Rows, *, floor: int = 1) -> pa.Table:
    """Return each value's count in the group and its share in both, largest difference first.

    A value with a count below ``floor`` in either group is not listed.
    """
    first, second = _counts(values, ours), _counts(values, others)
    lines = []
    for name in first | second:
        a, b = first[name], second[name]
        if min(count for count in (a, b, floor) if count) < floor:
            continue
        lines.append((name, a, a / max(len(ours), 1), b / max(len(others), 1)))
    lines.sort(key=lambda line: (-abs(line[2] - line[3]), line[0]))
    columns = list(zip(*lines, strict=True)) or [()] * 4
    return pa.table(
        {
            "value": pa.array(columns[0], pa.string()),
            "in the group": pa.array(columns[1], pa.int64()),
            "share": pa.array(columns[2], pa.float64()),
            "share in the other": pa.array(columns[3], pa.float64()),
        }
    )


def terms(texts: pa.ChunkedArray, ours: Rows, others: Rows, *, most: int = 15) -> pa.Table:
    """Return the words that are more frequent in the group, the most significant first; only those with z > 1.96."""
    first, second = _words(texts, ours), _words(texts, others)
    both = first + second
    size_a, size_b, size = first.total(), second.total(), both.total()
    lines = []
    for word, count in both.items():
        prior = _PRIOR_WORDS * count / size
        a, b = first[word] + prior, second[word] + prior
        odds = np.log(a / (size_a + _PRIOR_WORDS - a)) - np.log(b / (size_b + _PRIOR_WORDS - b))
        z = odds / np.sqrt(1 / a + 1 / b)
        if z > _LEAST_Z:
            lines.append((word, first[word], second[word], float(z)))
    lines.sort(key=lambda line: (-line[3], line[0]))
    columns = list(zip(*lines[:most], strict=True)) or [()] * 4
    return pa.table(
        {
            "term": pa.array(columns[0], pa.string()),
            "in the group": pa.array(columns[1], pa.int64()),
            "in the other": pa.array(columns[2], pa.int64()),
            "z": pa.array(columns[3], pa.float64()),
        }
    )


def _counts(values: pa.ChunkedArray, rows: Rows) -> Counter[str]:
    found = pc.value_counts(pc.fill_null(values.take(pa.array(rows)), "no value"))
    return Counter({item["values"]: item["counts"] for item in found.to_pylist()})


def _words(texts: pa.ChunkedArray, rows: Rows) -> Counter[str]:
    counter: Counter[str] = Counter()
    for text in texts.take(pa.array(rows)).to_pylist():
        counter.update(word.lower() for word in _WORD.findall(text or ""))
    return counter
