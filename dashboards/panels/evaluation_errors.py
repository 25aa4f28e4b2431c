"""Where runs go wrong: confused labels, figures by length and rarity, and the rank of the first relevant document."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import streamlit as st
from clinical_modernbert.evaluation.report.schema import ErrorAnalysis, TaskReport

from panels.counts import FLOOR, WITHHELD, withhold_small


@dataclass(frozen=True, slots=True)
class _GroupRow:
    """A figure of one group of examples."""

    group: str
    figure: str
    value: float
    of: float
    """Size of the group."""


def show_errors(task: TaskReport, *, public: bool) -> None:
    """Show confused labels, and figures by length and rarity; small counts are hidden unless the data set is public."""
    pairs = [
        {
            "encoder": encoder,
            "mode": mode,
            "label": pair.gold,
            "taken for": pair.predicted,
            "examples": _count(pair.examples, public=public),
        }
        for mode, encoder, analysis in task.analyses
        for pair in analysis.label_pairs or ()
    ]
    if pairs:
        with st.expander("Confused labels (mean over seeds)"):
            st.dataframe(pairs, hide_index=True)
            if not public:
                st.caption(f"Counts below {FLOOR} are withheld.")
    groups = [
        {"encoder": encoder, "mode": mode, **asdict(row)}
        for mode, encoder, analysis in task.analyses
        for parts in _partitions(analysis)
        for row in (parts if public else _large(parts))
    ]
    if groups:
        with st.expander("By length and rarity"):
            st.dataframe(groups, hide_index=True)
            if not public:
                st.caption(
                    f"Groups of fewer than {FLOOR} are left out, and the next smallest where the size of one could be computed."
                )


def _count(examples: float, *, public: bool) -> float | str:
    if public:
        return examples
    return f"{examples:,g}" if examples >= FLOOR else WITHHELD


def _large(parts: list[_GroupRow]) -> list[_GroupRow]:
    """Return the groups whose sizes may be shown."""
    sizes, _ = withhold_small({str(number): round(row.of) for number, row in enumerate(parts)})
    return [row for number, row in enumerate(parts) if row.of and sizes[str(number)] is not None]


def _partitions(analysis: ErrorAnalysis) -> Iterator[list[_GroupRow]]:
    """Yield the groups of each kind; those of one kind are all examples, or all entities."""
    yield [_GroupRow(_words(one.words), "accuracy", one.accuracy, one.examples) for one in analysis.by_length or ()]
    yield [_GroupRow(_words(one.words), "f1", one.f1, one.documents) for one in analysis.by_document_words or ()]
    yield [
        _GroupRow(_words(one.words), "ndcg@10", one.ndcg_at_10, one.queries) for one in analysis.by_query_words or ()
    ]
    yield [
        _GroupRow(_unknown(one.share), "accuracy", one.accuracy, one.examples)
        for one in analysis.by_unknown_words or ()
    ]
    yield [
        _GroupRow(f"entity {name}", "recall", one.recall, one.gold)
        for name, one in (analysis.recall_by_rarity or {}).items()
    ]
    ranks = analysis.first_relevant_rank or {}
    yield [
        _GroupRow(f"first relevant document: {name}", "share", count / sum(ranks.values()), count)
        for name, count in ranks.items()
    ]


def _unknown(share: tuple[float, float]) -> str:
    return f"{100 * share[0]:.0f} to {100 * share[1]:.0f} % of the words not in training"


def _words(ends: tuple[int, int]) -> str:
    return f"{ends[0]} to {ends[1]} words"
