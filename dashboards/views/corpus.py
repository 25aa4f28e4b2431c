"""A corpus for its data steward: sources, what was left out and why, what would have leaked, languages, identifiers, damage.

All of it is read from the manifest. The only texts are samples of sources that the recipe calls public, and a user has to open
each of them. Another corpus can be shown next to the chosen one.
"""

import json
from functools import partial

import streamlit as st
from clinical_modernbert.artifacts import Artifact
from clinical_modernbert.corpus.summary import Summary, read_summary
from clinical_modernbert.errors import ArtifactError
from mode import is_researcher
from panels.artifact_picker import artifacts_or_stop, choose, show_origin
from panels.charts import Row, column_chart
from panels.corpus_account import SourceAccount, corpus_accounts
from panels.corpus_pair import show_pair
from panels.corpus_tables import (
    show_contamination,
    show_drops,
    show_identifiers,
    show_languages,
    show_quarantine,
    show_sources,
)
from panels.counts import shown_counts, sum_in_words
from panels.kept import keep, say_absent_link, wanted
from store import opened, reveal, show_problems

_COUNT = st.column_config.NumberColumn(format="localized")


def page() -> None:
    """Show the newest corpus, or the one chosen, and another next to it where one is chosen."""
    st.title("Corpus")
    found = artifacts_or_stop("corpus", title="corpus", command="python jobs/build_corpus.py corpus/demo")
    corpus = choose(found, label="Corpus", key="corpus")
    show_origin(corpus)
    summary = _summary_or_stop(corpus)
    accounts = corpus_accounts(corpus, summary)
    _show_totals(summary, accounts)
    _offer_pair(corpus, summary, found)
    show_sources(summary, accounts)
    show_drops(accounts)
    show_contamination(summary, accounts)
    _show_lengths(accounts)
    show_languages(accounts)
    show_identifiers(accounts)
    show_quarantine(summary, accounts)
    if is_researcher():
        _show_rows(summary)
    _show_samples(corpus)


def _summary_or_stop(corpus: Artifact) -> Summary:
    try:
        return read_summary(corpus)
    except ArtifactError as error:
        show_problems((str(error),))
        st.stop()


def _offer_pair(corpus: Artifact, summary: Summary, found: list[Artifact]) -> None:
    others = {other.manifest.id: other for other in found if other.manifest.id != corpus.manifest.id}
    if not others:
        return
    say_absent_link("corpus-other", [corpus.manifest.id, *others])
    asked = wanted("corpus-other", others)
    chosen = st.selectbox(
        "Compare with",
        list(others),
        index=list(others).index(asked) if asked else None,
        key="corpus-other",
        placeholder="another corpus",
    )
    keep("corpus-other", chosen)
    if chosen:
        other = opened(others[chosen])
        show_pair((corpus, summary), (other, _summary_or_stop(other)))


def _show_totals(summary: Summary, accounts: list[SourceAccount]) -> None:
    tokens = sum(summary.training_tokens.values())
    generated = sum(summary.training_tokens[name] for name in summary.synthetic_sources)
    columns = st.columns(4)
    columns[0].metric("Training tokens, epochs counted", f"{tokens:,}")
    for column, title, split in (
        (columns[1], "Documents to train on", "train"),
        (columns[2], "Documents held out", "held_out"),
    ):
        column.metric(title, sum_in_words(account.cells[split] for account in accounts))
    columns[3].metric(
        "Generated text", f"{generated / tokens if tokens else 0:.0%}", help="Share of the training tokens"
    )
    if generated:
        names = ", ".join(summary.synthetic_sources)
        st.caption(f"Generated, not written by clinicians: {names}.")


def _show_lengths(accounts: list[SourceAccount]) -> None:
    st.header("How long documents are")
    most = max((n for a in accounts for n, count in enumerate(a.account.length_classes) if count), default=0)
    rows: list[Row] = []
    for one in accounts:
        classes = {str(n): count for n, count in enumerate(one.account.length_classes)}
        cells, _ = shown_counts(classes, public=one.public)
        total = sum(classes.values())
        for number, count in cells.items():
            if int(number) <= most and count is not None and total:
                rows.append(
                    {"tokens below": f"{2 ** int(number):,}", "share of documents": count / total, "source": one.name}
                )
    rows.sort(key=lambda row: int(row["tokens below"].replace(",", "")))
    names = [one.name for one in accounts]
    chosen = st.pills("Sources", names, default=names[:3], selection_mode="multi", key="length-sources")
    column_chart(
        [row for row in rows if row["source"] in chosen],
        x="tokens below",
        y="share of documents",
        series="source",
        alt="Share of each source's documents by length, in classes of powers of two.",
    )
    with st.expander("As a table"):
        st.dataframe(rows, hide_index=True)


def _show_rows(summary: Summary) -> None:
    st.header("Packed rows")
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
    st.header("Samples of public sources")
    for source in named:
        st.markdown(f"**{source}**")
        reveal(f"corpus/{corpus.manifest.id}/sample/{source}", partial(_sample, corpus, source))


def _sample(corpus: Artifact, source: str) -> str:
    card = json.loads(corpus.file("card.json").read_bytes())
    return str(card["samples"].get(source, "The corpus kept no text of this source."))


if __name__ == "__main__":
    page()
