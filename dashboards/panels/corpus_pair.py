"""Two corpora side by side: documents, tokens, drops, damage, leaks and languages by source, and what their recipes differ in."""

import streamlit as st
from clinical_modernbert.artifacts import Artifact
from clinical_modernbert.corpus.summary import Summary

from panels.corpus_account import SourceAccount, corpus_accounts
from panels.counts import in_words, shown_counts, sum_in_words
from panels.recipe_differences import differing

Corpus = tuple[Artifact, Summary]


def show_pair(first: Corpus, second: Corpus) -> None:
    """Show the figures of both by source; a source that one of them lacks has no figures there."""
    st.header("Two corpora side by side")
    corpora = {corpus.manifest.id: corpus_accounts(corpus, summary) for corpus, summary in (first, second)}
    figures = {corpus_id: _figures(accounts) for corpus_id, accounts in corpora.items()}
    names = dict.fromkeys(name for of_one in figures.values() for name in of_one)
    st.dataframe(
        [
            {
                "source": source,
                "what": what,
                **{corpus_id: of_one.get((source, what), "not in it") for corpus_id, of_one in figures.items()},
            }
            for source, what in names
        ],
        hide_index=True,
    )
    st.markdown("**Differences of their recipes**")
    rows = differing({corpus.manifest.id: corpus.manifest.recipe for corpus, _ in (first, second)})
    if rows:
        st.dataframe(rows, hide_index=True)
    else:
        st.markdown("The recipes are equal.")


def _figures(accounts: list[SourceAccount]) -> dict[tuple[str, str], str]:
    found = {}
    for one in accounts:
        account = one.account
        found |= {
            (one.name, "records"): in_words(one.records),
            (one.name, "documents to train on"): in_words(one.cells["train"]),
            (one.name, "documents held out"): in_words(one.cells["held_out"]),
            (one.name, "left out"): sum_in_words(one.dropped.values()),
            (one.name, "quarantined"): in_words(one.cells["quarantined"]),
            (one.name, "lost, estimated"): _alone(account.lost, one),
            (one.name, "documents with identifiers"): _alone(account.documents_with_identifiers, one),
            (one.name, "tokens"): f"{sum(account.tokens.values()):,}",
            (one.name, "longest document, tokens"): f"{account.longest_document_tokens:,}",
        }
        found |= {(one.name, f"left out for {path}"): in_words(count) for path, count in one.leaking.items()}
        languages = shown_counts(account.languages, public=one.public)[0]
        found |= {(one.name, f"language {name}"): in_words(count) for name, count in sorted(languages.items())}
    return found


def _alone(count: int, source: SourceAccount) -> str:
    """Return a count that is part of no sum on the page."""
    return in_words(shown_counts({"": count, "others": source.account.records - count}, public=source.public)[0][""])
