"""A corpus: its sources, dropped records with reasons, lengths, clinical terms, identifiers and unreadable records.

All of it is read from the manifest. The only texts are samples of sources that the recipe calls public, and a user has to open
each of them.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial

import streamlit as st
from clinical_modernbert.artifacts import Artifact
from clinical_modernbert.corpus.summary import Account, Summary, read_summary
from clinical_modernbert.errors import ArtifactError
from mode import is_researcher
from panels.artifact_picker import artifacts_or_stop, choose, show_origin
from panels.charts import Row, bar_chart, column_chart
from panels.counts import explain_withheld, shown_counts
from panels.cut_table import cut_table
from store import reveal, show_problems

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
_QUARANTINE_SHOWN = 200
_COUNT = st.column_config.NumberColumn(format="localized")


def page() -> None:
    """Show the newest corpus, or the one chosen."""
    st.title("Corpus")
    found = artifacts_or_stop("corpus", title="corpus", command="python jobs/build_corpus.py corpus/demo")
    corpus = choose(found, label="Corpus", key="corpus")
    show_origin(corpus)
    summary = _summary_or_stop(corpus)
    accounts, public = summary.sources, public_sources(corpus, summary)
    _show_totals(summary, accounts, public)
    _show_sources(summary, accounts, public)
    _show_drops(accounts, public)
    _show_lengths(accounts, public)
    _show_identifiers(accounts, public)
    _show_quarantine(summary, accounts, public)
    if is_researcher():
        _show_rows(summary)
    _show_samples(corpus)


def _summary_or_stop(corpus: Artifact) -> Summary:
    try:
        return read_summary(corpus)
    except ArtifactError as error:
        show_problems((str(error),))
        st.stop()


def public_sources(corpus: Artifact, summary: Summary) -> set[str]:
    """Return the sources whose counts may be shown whole: public by the recipe, or generated."""
    named = corpus.manifest.recipe.get("card", {}).get("public_sources", [])
    return {*named, *summary.synthetic_sources}


def _show_totals(summary: Summary, accounts: Mapping[str, Account], public: set[str]) -> None:
    tokens = sum(summary.training_tokens.values())
    generated = sum(summary.training_tokens[name] for name in summary.synthetic_sources)
    columns = st.columns(4)
    columns[0].metric("Training tokens, epochs counted", f"{tokens:,}")
    for column, title, split in (
        (columns[1], "Documents to train on", "train"),
        (columns[2], "Documents held out", "held_out"),
    ):
        column.metric(title, _total_documents(accounts, public, split))
    columns[3].metric(
        "Generated text", f"{generated / tokens if tokens else 0:.0%}", help="Share of the training tokens"
    )
    if generated:
        names = ", ".join(summary.synthetic_sources)
        st.caption(f"Generated, not written by clinicians: {names}.")


def _total_documents(accounts: Mapping[str, Account], public: set[str], split: str) -> str:
    """Return the sum of the counts that are shown: the full total would reveal a withheld count."""
    cells = [shown_counts(balance(account), public=name in public)[0][split] for name, account in accounts.items()]
    total = sum(cell for cell in cells if cell is not None)
    return f"> {total:,}" if None in cells else f"{total:,}"


def _show_sources(summary: Summary, accounts: Mapping[str, Account], public: set[str]) -> None:
    st.subheader("Sources")
    rows = []
    for name, account in accounts.items():
        # Documents, drops and quarantined records add up to the records, so they are withheld as one partition.
        cells, records = shown_counts(balance(account), public=name in public)
        tokens = sum(account.tokens.values())
        rows.append(
            {
                "source": name,
                "generated": name in summary.synthetic_sources,
                "records": records,
                "train": cells["train"],
                "held out": cells["held_out"],
                "tokens": tokens,
                "with epochs": summary.training_tokens[name],
                "clinical terms": account.salient_tokens / tokens if tokens else 0.0,
                **({"longest, tokens": account.longest_document_tokens} if is_researcher() else {}),
            }
        )
    st.dataframe(
        rows,
        hide_index=True,
        column_config={
            **dict.fromkeys(("records", "train", "held out", "tokens", "with epochs", "longest, tokens"), _COUNT),
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


def balance(account: Account) -> dict[str, int]:
    """Return the partition of a source's records: documents by split, drops by reason, quarantined."""
    dropped = {f"dropped:{reason}": count for reason, count in account.dropped.items()}
    return {**account.documents, **dropped, "quarantined": account.quarantined}


def _show_drops(accounts: Mapping[str, Account], public: set[str]) -> None:
    st.subheader("Left out, with reasons")
    rows = []
    for name, account in accounts.items():
        cells, records = shown_counts(balance(account), public=name in public)
        for cell, count in cells.items():
            if cell.startswith("dropped:"):
                reason = cell.removeprefix("dropped:")
                share = count / records if count is not None and records else None
                rows.append({"source": name, "reason": _in_words(reason), "records": count, "of its records": share})
    if not rows:
        st.markdown("Nothing was left out.")
        return
    st.dataframe(
        rows,
        hide_index=True,
        column_config={"records": _COUNT, "of its records": st.column_config.NumberColumn(format="percent")},
    )


def _in_words(reason: str) -> str:
    plain = _REASONS.get(reason, reason.replace("_", " "))
    return f"{plain} ({reason})" if is_researcher() and plain != reason else plain


def _show_lengths(accounts: Mapping[str, Account], public: set[str]) -> None:
    st.subheader("How long documents are")
    most = max((n for a in accounts.values() for n, count in enumerate(a.length_classes) if count), default=0)
    rows: list[Row] = []
    for name, account in accounts.items():
        classes = {str(n): count for n, count in enumerate(account.length_classes)}
        cells, _ = shown_counts(classes, public=name in public)
        total = sum(classes.values())
        for number, count in cells.items():
            if int(number) <= most and count is not None and total:
                rows.append(
                    {"tokens below": f"{2 ** int(number):,}", "share of documents": count / total, "source": name}
                )
    rows.sort(key=lambda row: int(row["tokens below"].replace(",", "")))
    chosen = st.pills(
        "Sources", list(accounts), default=list(accounts)[:3], selection_mode="multi", key="length-sources"
    )
    column_chart(
        [row for row in rows if row["source"] in chosen],
        x="tokens below",
        y="share of documents",
        series="source",
        alt="Share of each source's documents by length, in classes of powers of two.",
    )
    with st.expander("As a table"):
        st.dataframe(rows, hide_index=True)


def _show_identifiers(accounts: Mapping[str, Account], public: set[str]) -> None:
    st.subheader("Identifiers found by the guard")
    rows = []
    for name, account in accounts.items():
        cells, _ = shown_counts(account.identifiers, public=name in public)
        rows += [{"source": name, "kind": kind, "found": count} for kind, count in cells.items()]
    if rows:
        st.dataframe(rows, hide_index=True)
    else:
        st.markdown("None.")
    st.caption("The guard is a pattern-based filter, not de-identification.")


def _show_quarantine(summary: Summary, accounts: Mapping[str, Account], public: set[str]) -> None:
    st.subheader("Could not be read")
    rows = []
    for name, account in accounts.items():
        cells, _ = shown_counts(balance(account), public=name in public)
        if account.quarantined or account.unread_bytes:
            unread = account.unread_bytes
            rows.append({"source": name, "records": cells["quarantined"], "bytes after damage": unread})
    if not rows:
        st.markdown("Every record was read.")
        return
    st.dataframe(rows, hide_index=True)
    if is_researcher() and summary.quarantine:
        listed = summary.quarantine[:_QUARANTINE_SHOWN]
        with st.expander(f"Where they are ({len(listed)} shown, all in quarantine.jsonl)"):
            # A record's id can contain a patient's id: outside public sources only file and position are shown.
            cut_table(
                [
                    {**asdict(entry), "record_id": entry.record_id if entry.source in public else None}
                    for entry in listed
                ],
                key="quarantine",
            )


def _show_rows(summary: Summary) -> None:
    st.subheader("Packed rows")
    st.dataframe(
        [
            {
                "tokens a row": int(length),
                "train": sum(rows["train"]),
                "held out": sum(rows["held_out"]),
                "filled": summary.fill[length],
            }
            for length, rows in summary.rows.items()
        ],
        hide_index=True,
        column_config={"train": _COUNT, "held out": _COUNT, "filled": st.column_config.NumberColumn(format="percent")},
    )
    st.caption(f"Vocabulary: {summary.vocabulary_size:,} tokens, padding included.")


def _show_samples(corpus: Artifact) -> None:
    named = corpus.manifest.recipe.get("card", {}).get("public_sources", [])
    if not named:
        return
    st.subheader("Samples of public sources")
    for source in named:
        st.markdown(f"**{source}**")
        reveal(f"corpus/{corpus.manifest.id}/sample/{source}", partial(_sample, corpus, source))


def _sample(corpus: Artifact, source: str) -> str:
    card = json.loads(corpus.file("card.json").read_bytes())
    return str(card["samples"].get(source, "The corpus kept no text of this source."))


if __name__ == "__main__":
    page()
