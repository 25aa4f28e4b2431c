"""Pairs that would leak an evaluation set: those with one of its texts, or with 13 words in a row of one, and listed documents.

The corpus's comparison does the second and the third. Queries and names are shorter than 13 words: of them the whole text counts,
whatever the order of its words.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from clinical_modernbert.corpus.decontamination import Decontamination, Leak, bounded_texts, in_memory
from clinical_modernbert.corpus.normalise import normalise
from clinical_modernbert.hashing import text_sha256
from clinical_modernbert.recipe.corpus import DecontaminationSection
from clinical_modernbert.sources.document import Document
from clinical_modernbert.sources.terms import Term, TermPair, text_key


@dataclass(frozen=True, slots=True)
class Contamination:
    """What the pairs are compared with; nothing without a section."""

    documents: Decontamination | None = None
    texts: Mapping[str, str] = field(default_factory=dict)
    """Hash of a text's words -> path of its set."""
    num_texts: Mapping[str, int] = field(default_factory=dict)
    """Of each set and list, what the pairs are compared with: texts (of a table its cells), or ids."""

    @classmethod
    def of(cls, section: DecontaminationSection | None) -> "Contamination":
        """Read the evaluation sets of a recipe."""
        if section is None:
            return cls()
        texts: dict[str, str] = {}
        num_texts = Counter[str]()
        for path in section.paths:
            # A name is a cell of a table, never its whole row.
            for text in bounded_texts(path, by_cell=True):
                num_texts[path] += 1
                if text_key(text):
                    texts[_key(text)] = path
        documents = in_memory(section)
        return cls(documents, texts, num_texts + Counter({path: len(ids) for path, ids in documents.ids.items()}))

    def leak(self, pair: TermPair) -> Leak | None:
        """Return what a pair would leak, or None."""
        if self.documents is None:
            return None
        for term in (pair.anchor, pair.positive):
            path = self.texts.get(_key(term.text))
            leak = Leak("contaminated", (path,)) if path else self.documents.leak(_document(term), normalise(term.text))
            if leak:
                return leak
        return None


def _document(term: Term) -> Document:
    # A list names documents: the code 586 is not the PMID 586.
    group = term.group if term.prose else ""
    return Document(group.partition(":")[2], "", group, term.text)


def _key(text: str) -> str:
    return text_sha256(text_key(text))[:16]
