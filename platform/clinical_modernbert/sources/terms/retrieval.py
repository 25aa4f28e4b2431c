"""Pairs of a set of queries and documents in BEIR's layout: a query and each document that answers it.

Only documents that a grade names are kept, so memory does not grow with the pool.
"""

from collections.abc import Iterator
from pathlib import Path

from clinical_modernbert.errors import SourceError
from clinical_modernbert.recipe.texts import RetrievalPairs
from clinical_modernbert.sources.document import Dropped, key_of
from clinical_modernbert.sources.evaluation_sets.pmc_patients import read_entries, read_qrels
from clinical_modernbert.sources.terms.rows import existing
from clinical_modernbert.sources.terms.term import Term, TermPair, TermRecord, prose_term


def retrieval_files(source: RetrievalPairs) -> list[Path]:
    """Return the files of queries, documents and grades."""
    return [existing(path, source, field) for field, path in sorted(source.paths.items())]


def read_retrieval(source: RetrievalPairs) -> Iterator[TermRecord]:
    """Yield a pair for each grade of at least ``min_grade``; an unknown query or document is a ``SourceError`` with its line."""
    corpus, qrels, queries = retrieval_files(source)
    kept: list[tuple[int, str, str]] = []
    for line, query, document, grade in read_qrels(qrels):
        if grade < source.min_grade or query == document:
            yield Dropped("grade" if grade < source.min_grade else "own_document")
        else:
            kept.append((line, query, document))
    # By hash of the query, so that the documents of one stay together.
    kept.sort(key=lambda row: (key_of(source.name, row[1]), row[0]))
    for _ in kept[source.max_pairs :]:
        yield Dropped("not_drawn")
    kept = kept[: source.max_pairs]
    texts = _terms(queries, {query for _, query, _ in kept}, f"{source.name}_query", source)
    documents = _terms(corpus, {document for _, _, document in kept}, source.system or source.name, source)
    for line, query, document in kept:
        for found, name, path in ((texts, query, queries), (documents, document, corpus)):
            if name not in found:
                raise SourceError(f"sources[{source.name}]: {qrels.name}, line {line}: {name!r} is not in {path.name}")
        yield TermPair("query", texts[query], documents[document])


def _terms(path: Path, wanted: set[str], system: str, source: RetrievalPairs) -> dict[str, Term]:
    return {
        entry.id: prose_term(
            f"{entry.title} {entry.text}", f"{system}:{entry.id}", max_characters=source.max_characters
        )
        for entry in read_entries(path)
        if entry.id in wanted
    }
