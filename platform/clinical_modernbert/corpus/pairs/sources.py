"""The sources of a pair set, of whatever type: their files, their records, their licence."""

from collections.abc import Iterator
from pathlib import Path

from clinical_modernbert.artifacts import Artifact
from clinical_modernbert.corpus.pairs.documents import corpus_source, read_corpus_pairs
from clinical_modernbert.recipe.pairs import PairSource
from clinical_modernbert.recipe.texts import CorpusPairs, RetrievalPairs
from clinical_modernbert.sources import licence_of as corpus_licence
from clinical_modernbert.sources import terms
from clinical_modernbert.sources.terms.diagnoses import diagnoses_files
from clinical_modernbert.sources.terms.retrieval import read_retrieval, retrieval_files


def source_files(source: PairSource) -> list[Path]:
    """Return the files that decide a source's pairs; the corpus of documents is an input of its own."""
    if isinstance(source, CorpusPairs):
        return diagnoses_files(source)
    return retrieval_files(source) if isinstance(source, RetrievalPairs) else terms.source_files(source)


def read_source(source: PairSource, corpus: Artifact | None) -> Iterator[terms.TermRecord]:
    """Yield a source's pairs, drops and quarantined records, and which groups are held out with which."""
    if isinstance(source, CorpusPairs):
        assert corpus is not None  # the recipe is checked
        return read_corpus_pairs(source, corpus)
    return read_retrieval(source) if isinstance(source, RetrievalPairs) else terms.read_pairs(source)


def licence_of(source: PairSource, corpus: Artifact | None) -> str | None:
    """Return the usual licence of a source's texts; None where it is that of the user's own files."""
    if isinstance(source, CorpusPairs):
        assert corpus is not None
        return corpus_licence(corpus_source(source, corpus))
    return None if isinstance(source, RetrievalPairs) else terms.licence_of(source)


def text_of(source: PairSource, corpus: Artifact | None) -> str | None:
    """Return whose documents' text the pairs hold; None for names of concepts."""
    if isinstance(source, CorpusPairs):
        assert corpus is not None
        return f"documents of {source.documents} ({corpus_source(source, corpus).type}) in {corpus.manifest.id}"
    return "queries and documents" if isinstance(source, RetrievalPairs) else None
