"""The values that readers of vocabularies and texts yield: pairs, and which concepts are held out with which.

A concept is named ``<system>:<id>`` (``icd10cm:E11.65``, ``doid:9351``, ``hp:0000083``, ``umls:C0011849``). Concepts are held out
by group: of an ICD code the category, of any other concept the concept itself. A document's concept is its group in a corpus, the
patient or the PMID.
"""

import re
from dataclasses import dataclass
from typing import Literal

from clinical_modernbert.sources.codes.diagnoses import Table
from clinical_modernbert.sources.document import Dropped, Quarantined

_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True, slots=True)
class Term:
    """A name of a concept, or a text of a document."""

    text: str
    lineage: tuple[str, ...]
    """The concept, then those above it, the nearest first; in a code system up to its group."""
    is_held_out_alone: bool = False
    """Whether the concept is a group of its own, although there are others above it."""
    prose: Literal["whole", "cut"] | None = None
    """Whether a document's text is whole; None for a name. Two documents with one text are still two concepts."""

    @property
    def group(self) -> str:
        """The concept that is held out as a whole."""
        return self.lineage[0 if self.is_held_out_alone else -1]


@dataclass(frozen=True, slots=True)
class TermPair:
    """Two terms that mean the same, or of which the second is the more general one."""

    relation: str
    """``crosswalk``, ``parent``, ``inclusion``, ``cross_reference``, ``synonym`` or a synonym's type (``layperson``); of texts
    ``title_abstract``, ``sections``, ``diagnoses`` or ``query``."""
    anchor: Term
    positive: Term


@dataclass(frozen=True, slots=True)
class Follows:
    """The group ``follower`` is held out wherever the group ``leader`` is, because they mean the same."""

    follower: str
    leader: str


@dataclass(frozen=True, slots=True)
class IsA:
    """The concept ``child`` is a kind of ``parent``, which its lineage does not say: its ontology is not a tree of codes."""

    child: str
    parent: str


TermRecord = TermPair | Follows | IsA | Dropped | Quarantined
"""What a reader yields; cross references and hierarchy are not counted as records."""


def code_term(text: str, table: Table, code: str) -> Term:
    """Return the term of an ICD code with its dot; the codes above it are its prefixes down to the category."""
    category, _, digits = code.partition(".")
    above = [f"{category}.{digits[:length]}" for length in range(len(digits), 0, -1)]
    return Term(text, tuple(f"{table}:{name}" for name in (*above, category)))


def prose_term(text: str, concept: str, *, max_characters: int) -> Term:
    """Return the term of a document's text, cut at the last blank before ``max_characters``."""
    text = text.strip()
    if len(text) <= max_characters:
        return Term(text, (concept,), prose="whole")
    cut = text[: max_characters + 1]
    words = cut.rsplit(maxsplit=1)
    return Term(words[0] if len(words) > 1 else cut[:-1], (concept,), prose="cut")


def one_line(text: str) -> str:
    """Return the text with single spaces."""
    return " ".join(text.split())


def text_key(text: str) -> str:
    """Return what equal names have in common: their words in lower case, sorted (``Failure, kidney`` = ``kidney failure``)."""
    return " ".join(sorted(_WORD.findall(text.casefold())))
