"""Vocabularies -> pairs of terms that mean the same, for contrastive training.

``READERS`` names the reader of every recipe type: its files, whose content identifies a pair set, and its records one by one.
A new source type is a section in ``recipe/terms.py``, two functions here and their line in the table.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clinical_modernbert.recipe.terms import TermSource
from clinical_modernbert.sources.terms import everyday, headings, icd, names, ontologies
from clinical_modernbert.sources.terms.term import Follows, IsA, Term, TermPair, TermRecord, text_key

__all__ = ["Follows", "IsA", "Term", "TermPair", "TermRecord", "licence_of", "read_pairs", "source_files", "text_key"]

_NLM = "NLM's terms for UMLS and RxNorm"


@dataclass(frozen=True, slots=True)
class _Reader:
    files: Callable[[Any], list[Path]]
    read: Callable[[Any], Iterator[TermRecord]]
    licence: str | None
    """The usual licence of such a source; None where it is that of the user's own files."""


READERS: Mapping[str, _Reader] = {
    "icd10cm_tabular": _Reader(icd.tabular_files, icd.read_tabular_pairs, "public domain (U.S. government)"),
    "gem": _Reader(icd.crosswalk_files, icd.read_crosswalk_pairs, "public domain (U.S. government)"),
    "lay_words": _Reader(everyday.lay_word_files, everyday.read_lay_words, "that of this project"),
    "disease_ontology": _Reader(
        ontologies.disease_ontology_files,
        ontologies.read_disease_ontology,
        "Disease Ontology, CC BY 3.0 or CC0 by release",
    ),
    "obo": _Reader(ontologies.obo_files, ontologies.read_obo, None),
    "rrf": _Reader(names.rrf_files, names.read_rrf, _NLM),
    "snomed": _Reader(ontologies.snomed_files, ontologies.read_snomed, "SNOMED International, a licence is needed"),
    "mesh": _Reader(headings.mesh_files, headings.read_mesh, "NLM's terms for MeSH"),
    "term_table": _Reader(names.table_files, names.read_term_table, None),
}


def source_files(source: TermSource) -> list[Path]:
    """Return the files that decide a source's pairs; raises ``SourceError`` where one is absent."""
    return READERS[source.type].files(source)


def read_pairs(source: TermSource) -> Iterator[TermRecord]:
    """Yield a source's pairs, drops and quarantined records, and which groups are held out with which."""
    return READERS[source.type].read(source)


def licence_of(source: TermSource) -> str | None:
    """Return the usual licence of a source's type."""
    return READERS[source.type].licence
