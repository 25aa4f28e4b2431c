"""The sources of pairs of longer texts: documents of a corpus, and sets of queries and documents."""

from typing import Literal

from pydantic import Field, model_validator

from clinical_modernbert.recipe.sources import SourceName
from clinical_modernbert.recipe.terms import TermSection


class TextPairSection(TermSection):
    """What sources of longer texts have."""

    max_characters: int = Field(default=2000, ge=20)
    """Longest text; a longer one is cut before it, at a blank. It takes the place of the pair set's ``max_characters``."""
    max_pairs: int = Field(default=50_000, ge=1)
    """Largest number of pairs, drawn by hashes of ids, so that memory does not grow with the source."""


class CorpusPairs(TextPairSection):
    """Documents of one source of the pair set's ``corpus``, as the corpus prepares them; its raw files are read again."""

    type: Literal["corpus"]
    documents: SourceName
    """Name of the source in the corpus's recipe."""
    relation: Literal["title_abstract", "sections", "diagnoses"]
    """``title_abstract``: the first line and the text after the empty line below it (PubMed, PMC). ``sections``: sections of one
    note, the first with the second, the third with the fourth. ``diagnoses``: a note and the descriptions of the ICD codes of its
    hospital stay (MIMIC)."""
    diagnoses_path: str | None = None
    """MIMIC's ``diagnoses_icd.csv``, plain or gzip; for ``relation: diagnoses``."""
    max_diagnoses: int = Field(default=3, ge=1)
    """Largest number of diagnoses of a stay, the most important first."""

    @model_validator(mode="after")
    def _diagnoses_have_a_file(self) -> "CorpusPairs":
        if (self.relation == "diagnoses") != (self.diagnoses_path is not None):
            raise ValueError("diagnoses_path belongs to relation: diagnoses, which needs it")
        return self


class RetrievalPairs(TextPairSection):
    """A set of queries and documents in BEIR's layout: a query and each document that answers it."""

    type: Literal["retrieval"]
    queries_path: str
    """``queries.jsonl``, plain or gzip."""
    corpus_path: str
    """``corpus.jsonl``, plain or gzip."""
    qrels_path: str
    """Grades of a split for training: ``qrels/train.tsv``, as BEIR or TREC writes them."""
    min_grade: int = Field(default=1, ge=1)
    """Lowest grade of a document that answers a query."""
    system: SourceName | None = None
    """Whose ids the documents have: with ``pmid`` they are held out with the corpus's citations. None takes the source's name."""
