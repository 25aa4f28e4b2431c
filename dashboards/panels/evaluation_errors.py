"""Where runs go wrong: confused labels, figures by length and rarity, and where retrieval ranks what it should find."""

from typing import Any

import streamlit as st

from panels.counts import FLOOR


def show_errors(errors: dict[str, Any], *, public: bool) -> None:
    """Show what is taken for what, and figures by length and rarity; small counts of sets that are not public stay hidden."""
    rows = [
        {
            "encoder": encoder,
            "how": mode.replace("_", "-"),
            "is": pair["gold"],
            "taken for": pair["predicted"],
            "examples": pair["examples"] if public or pair["examples"] >= FLOOR else None,
        }
        for mode, encoders in errors.items()
        for encoder, analysis in encoders.items()
        for pair in analysis.get("label_pairs", ())
    ]
    if rows:
        with st.expander("What is taken for what (mean over seeds)"):
            st.dataframe(rows, hide_index=True)
            if not public:
                st.caption(f"Counts below {FLOOR} are withheld (None).")
    parts = [
        {"encoder": encoder, "how": mode.replace("_", "-"), **row}
        for mode, encoders in errors.items()
        for encoder, analysis in encoders.items()
        for row in _parts(analysis)
        if public or row["of"] >= FLOOR
    ]
    if parts:
        with st.expander("By length and rarity"):
            st.dataframe(parts, hide_index=True)
            if not public:
                st.caption(f"Parts of fewer than {FLOOR} are left out.")


def _parts(analysis: dict[str, Any]) -> list[dict[str, Any]]:
    """Return rows (part, figure, value, of how many) of what an analysis counts by length and rarity."""
    rows: list[dict[str, Any]] = []
    for part, figure, of in (
        ("by_length", "accuracy", "examples"),
        ("by_document_words", "f1", "documents"),
        ("by_query_words", "ndcg@10", "queries"),
    ):
        for row in analysis.get(part, ()):
            words = f"{row['words'][0]} to {row['words'][1]} words"
            rows.append({"part": words, "figure": figure, "value": row[figure], "of": row[of]})
    for row in analysis.get("by_unknown_words", ()):
        share = f"{100 * row['share'][0]:.0f} to {100 * row['share'][1]:.0f} % of the words not in training"
        rows.append({"part": share, "figure": "accuracy", "value": row["accuracy"], "of": row["examples"]})
    for name, row in analysis.get("recall_by_rarity", {}).items():
        rows.append({"part": f"entity {name}", "figure": "recall", "value": row["recall"], "of": row["gold"]})
    ranks = analysis.get("first_relevant_rank", {})
    for name, count in ranks.items():
        share = count / sum(ranks.values())
        rows.append({"part": f"first relevant document: {name}", "figure": "share", "value": share, "of": count})
    return rows
