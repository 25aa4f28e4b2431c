"""The tables of the corpus page: sources, drops, contamination, languages, identifiers, and what could not be read."""

from collections.abc import Collection, Sequence
from dataclasses import asdict

import streamlit as st
from clinical_modernbert.corpus.summary import Summary
from mode import is_researcher

from panels.charts import Row, bar_chart
from panels.corpus_account import SourceAccount
from panels.counts import WITHHELD, explain_withheld, in_words, shown_counts, sum_in_words
from panels.cut_table import cut_table

_REASONS = {
    "boilerplate": "mostly set phrases",
    "contaminated": "part of an evaluation set",
    "deleted": "deleted by its publisher",
    "deletion_notice": "notice of a deletion",
    "duplicate": "the same text as another",
    "empty": "no text",
    "few_terms": "too few clinical terms",
    "header": "a heading, not a code",
    "identifiers": "seems to name a person",
    "language": "in a language that the recipe leaves out",
    "near_duplicate": "nearly the same text as another",
    "no_abstract": "no abstract",
    "no_body": "no text but the heading",
    "no_description": "no description",
    "repetition": "repeats itself",
    "superseded": "an older version",
    "too_long": "too long",
    "too_short": "too short",
}
_LANGUAGES = {"short": "too short to tell"}
_QUARANTINE_SHOWN = 200
_COUNT = st.column_config.NumberColumn(format="localized")
_PERCENT = st.column_config.NumberColumn(format="percent")

Accounts = Sequence[SourceAccount]


def show_sources(summary: Summary, accounts: Accounts) -> None:
    """Show what each source gave."""
    st.header("Sources")
    rows = []
    for one in accounts:
        tokens = sum(one.account.tokens.values())
        rows.append(
            {
                "source": one.name,
                "generated": one.name in summary.synthetic_sources,
                "records": in_words(one.records),
                "train": in_words(one.cells["train"]),
                "held out": in_words(one.cells["held_out"]),
                "tokens": tokens,
                "with epochs": summary.training_tokens[one.name],
                "clinical terms": one.account.salient_tokens / tokens if tokens else 0.0,
                "longest document, tokens": one.account.longest_document_tokens,
            }
        )
    st.dataframe(
        rows,
        hide_index=True,
        column_config={
            **dict.fromkeys(("tokens", "with epochs", "longest document, tokens"), _COUNT),
            "clinical terms": st.column_config.NumberColumn(
                format="percent", help="Share of the tokens that belong to a clinical term"
            ),
        },
    )
    explain_withheld()
    bar_chart(
        [{"source": name, "training tokens, epochs counted": n} for name, n in summary.training_tokens.items()],
        x="training tokens, epochs counted",
        y="source",
        alt="Training tokens of each source, epochs counted; the numbers are in the table above.",
    )


def show_drops(accounts: Accounts) -> None:
    """Show how many records were left out: by reason, most first, with a column for each source and their sum."""
    st.header("Left out, with reasons")
    reasons = {reason for one in accounts for reason in one.account.dropped}
    if not reasons:
        st.markdown("Nothing was left out.")
        return
    by_reason = {reason: [one.dropped.get(reason, 0) for one in accounts] for reason in reasons}
    rows = [{"reason": reason_in_words(reason), **_row(accounts, by_reason[reason])} for reason in _sorted(by_reason)]
    drops = [one.dropped.values() for one in accounts]
    totals: Row = {one.name: sum_in_words(counts) for one, counts in zip(accounts, drops, strict=True)}
    if len(accounts) > 1:
        totals["all sources"] = sum_in_words(count for counts in drops for count in counts)
    shares: Row = {one.name: _share(counts, one.records) for one, counts in zip(accounts, drops, strict=True)}
    st.dataframe(
        [*rows, {"reason": "all reasons", **totals}, {"reason": "share of the records", **shares}],
        hide_index=True,
    )


def show_contamination(summary: Summary, accounts: Accounts) -> None:
    """Show what the documents were compared with, and how many were left out for each evaluation set."""
    st.header("Compared with evaluation sets")
    if not summary.evaluation_sets:
        st.warning(
            "The documents were compared with no evaluation set (`decontamination` in the recipe), so any may be among them.",
            icon=":material/content_copy:",
        )
        return
    rows = []
    for compared in summary.evaluation_sets:
        by = "ids" if compared.ngram_words is None else f"{compared.ngram_words} words in a row"
        counts = [one.leaking.get(compared.path, 0) for one in accounts]
        facts = {"set": compared.path, "compared by": by, "texts or ids": compared.items, "sequences": compared.ngrams}
        rows.append({**facts, **_row(accounts, counts)})
    st.dataframe(rows, hide_index=True, column_config=dict.fromkeys(("texts or ids", "sequences"), _COUNT))
    st.caption(
        "Documents left out for each set; one that is in two sets counts for both. A text shorter than a sequence is not found."
    )


def show_languages(accounts: Accounts) -> None:
    """Show the languages of the documents that were read, before duplicates were removed."""
    st.header("Languages")
    shown = [shown_counts(one.account.languages, public=one.public)[0] for one in accounts]
    languages = {language for cells in shown for language in cells}
    if not languages:
        st.markdown("No document was read.")
        return
    by_language = {language: [cells.get(language, 0) for cells in shown] for language in languages}
    st.dataframe(
        [
            {"language": _LANGUAGES.get(language, language), **_row(accounts, by_language[language])}
            for language in _sorted(by_language)
        ],
        hide_index=True,
    )
    st.caption("Documents that were read, before duplicates were removed. Lists of codes and numbers have no language.")


def show_identifiers(accounts: Accounts) -> None:
    """Show how many documents hold identifiers, and of which kinds."""
    st.header("Identifiers found by the guard")
    documents = []
    for one in accounts:
        number = one.account.documents_with_identifiers
        cells, _ = shown_counts({"with": number, "without": one.account.records - number}, public=one.public)
        documents.append({"source": one.name, "documents with identifiers": in_words(cells["with"])})
    st.dataframe(documents, hide_index=True)
    shown = [shown_counts(one.account.identifiers, public=one.public)[0] for one in accounts]
    by_kind = {kind: [cells.get(kind, 0) for cells in shown] for cells in shown for kind in cells}
    if by_kind:
        rows = [{"kind": kind, **_row(accounts, by_kind[kind])} for kind in _sorted(by_kind)]
        st.dataframe(rows, hide_index=True)
    st.caption("The guard is a pattern-based filter, not de-identification.")


def show_quarantine(summary: Summary, accounts: Accounts) -> None:
    """Show what could not be read, by source; for researchers also where it is."""
    st.header("Could not be read")
    damaged = [one for one in accounts if one.account.quarantined or one.account.unread_bytes or one.account.lost]
    if not damaged:
        st.markdown("Every record was read.")
        return
    rows = [
        {
            "source": one.name,
            "quarantined records": in_words(one.cells["quarantined"]),
            "lost records, estimated": in_words(shown_counts({"lost": one.account.lost}, public=one.public)[0]["lost"]),
            "bytes after damage": one.account.unread_bytes,
        }
        for one in damaged
    ]
    st.dataframe(rows, hide_index=True, column_config={"bytes after damage": _COUNT})
    if is_researcher() and summary.quarantine:
        public = {one.name for one in accounts if one.public}
        # The lines of a source whose count is withheld would count it.
        withheld = [one.name for one in accounts if one.cells["quarantined"] is None]
        listed = [entry for entry in summary.quarantine if entry.source not in withheld][:_QUARANTINE_SHOWN]
        with st.expander(f"Where they are ({len(listed)} shown, all in quarantine.jsonl)"):
            if withheld:
                st.caption(f"Not shown for {', '.join(withheld)}, where the count is withheld.")
            # A record's id can contain a patient's id: outside public sources only file and position are shown.
            cut_table(
                [
                    {**asdict(entry), "record_id": entry.record_id if entry.source in public else "not shown"}
                    for entry in listed
                ],
                key="quarantine",
            )


def reason_in_words(reason: str) -> str:
    """Return why a record was left out, in plain words; researchers see the reason's name too."""
    plain = _REASONS.get(reason, reason.replace("_", " "))
    return f"{plain} ({reason})" if is_researcher() and plain != reason else plain


def _row(accounts: Accounts, counts: Sequence[int | None]) -> Row:
    """Return a column for each source, and their sum where there are several."""
    cells: Row = {one.name: in_words(count) for one, count in zip(accounts, counts, strict=True)}
    return {**cells, "all sources": sum_in_words(counts)} if len(accounts) > 1 else cells


def _sorted(counts: dict[str, list[int | None]]) -> list[str]:
    """Return the names, the one with the most first; what is withheld counts as nothing, so that its place tells nothing."""
    return sorted(counts, key=lambda name: (-sum(count or 0 for count in counts[name]), name))


def _share(counts: Collection[int | None], total: int | None) -> str:
    known = [count for count in counts if count is not None]
    if total is None or len(known) < len(counts):
        return WITHHELD
    return f"{sum(known) / total:.1%}" if total else "0.0%"
