"""Everyday phrases answered by the explorer's search, of 67, on the whole ICD-10-CM and ICD-9-CM.

The phrases and the expected beginnings of codes are in ``benchmarks/kits/search_phrases.py``. The search is the browser's own
source, run in Node. The row has no peer: it counts answers and names what is not answered.
"""

import sys

from benchmarks.kits.explorer_search import run_search, whole_table
from benchmarks.kits.search_phrases import PHRASES, is_answered


def score() -> str:
    """Print what is not answered and the times, and return the closing line."""
    counts = {}
    queries = [query for query, _, _ in PHRASES]
    for table, column in (("icd10cm", 1), ("icd9cm", 2)):
        found = run_search(whole_table(table), queries)
        answers = [
            is_answered(answer["codes"], phrase[column])
            for phrase, answer in zip(PHRASES, found["answers"], strict=True)
        ]
        for phrase, answer, answered in zip(PHRASES, found["answers"], answers, strict=True):
            if not answered:
                sys.stdout.write(f"{table}: {phrase[0]!r} gives {answer['codes'][:10]}\n")
        times = sorted(answer["ms"] for answer in found["answers"])
        median, most = times[len(times) // 2], times[-1]
        sys.stdout.write(
            f"{table}: index {found['index_ms']:.0f} ms, a search {median:.1f} ms (median), {most:.0f} ms (most)\n"
        )
        counts[table] = sum(answers)
    return f"search icd10={counts['icd10cm']} icd9={counts['icd9cm']}"
