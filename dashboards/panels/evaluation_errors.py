"""Where runs go wrong: confused labels, figures by length and rarity, and the rank of the first relevant document."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import streamlit as st
from clinical_modernbert.evaluation.report.schema import ErrorAnalysis, TaskReport

from panels.counts import FLOOR


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
            "examples": pair.examples if public or pair.examples >= FLOOR else None,
        }
        for mode, encoder, analysis in task.analyses
        for pair in analysis.label_pairs or ()
    ]
    if pairs:
        with st.expander("Confused labels (mean over seeds)"):
            st.dataframe(pairs, hide_index=True)
            if not public:
                st.caption(f"Counts below {FLOOR} are withheld (None).")
    groups = [
        {"encoder": encoder, "mode": mode, **asdict(row)}
        for mode, encoder, analysis in task.analyses
        for row in _group_rows(analysis)
        if public or row.of >= FLOOR
    ]
    if groups:
        with st.expander("By length and rarity"):
            st.dataframe(groups, hide_index=True)
            if not public:
                st.caption(f"Groups of fewer than {FLOOR} are left out.")


def _group_rows(analysis: ErrorAnalysis) -> Iterator[_GroupRow]:
    for texts in analysis.by_length or ():
        yield _GroupRow(_words(texts.words), "accuracy", texts.accuracy, texts.examples)
    for documents in analysis.by_document_words or ():
        yield _GroupRow(_words(documents.words), "f1", documents.f1, documents.documents)
    for queries in analysis.by_query_words or ():
        yield _GroupRow(_words(queries.words), "ndcg@10", queries.ndcg_at_10, queries.queries)
    for texts in analysis.by_unknown_words or ():
        low, high = texts.share
        share = f"{100 * low:.0f} to {100 * high:.0f} % of the words not in training"
        yield _GroupRow(share, "accuracy", texts.accuracy, texts.examples)
    for name, entities in (analysis.recall_by_rarity or {}).items():
        yield _GroupRow(f"entity {name}", "recall", entities.recall, entities.gold)
    ranks = analysis.first_relevant_rank or {}
    for name, count in ranks.items():
        yield _GroupRow(f"first relevant document: {name}", "share", count / sum(ranks.values()), count)


def _words(ends: tuple[int, int]) -> str:
    return f"{ends[0]} to {ends[1]} words"
