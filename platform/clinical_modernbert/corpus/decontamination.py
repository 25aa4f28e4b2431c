"""Documents that would leak an evaluation set: those that share 13 words with one of its texts, and those that a list names.

Both sides are compared in the normalised form, before identifiers are masked: a mask in every 13 words would hide an overlap.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clinical_modernbert.artifacts.remote_files import local_copy
from clinical_modernbert.artifacts.work_area import WorkArea
from clinical_modernbert.corpus.dedup.shingles import evaluation_ngrams, is_contaminated
from clinical_modernbert.corpus.normalise import normalise
from clinical_modernbert.corpus.results import EvaluationNgrams
from clinical_modernbert.errors import SourceError
from clinical_modernbert.recipe.corpus import DecontaminationSection
from clinical_modernbert.sources.document import Document

# 1.6 GB, and as much again while they are sorted. PubMed's abstracts have 40 times as many.
MOST_NGRAMS = 200_000_000
_EVALUATION = "evaluation.npy"


@dataclass(frozen=True, slots=True)
class Decontamination:
    """What documents are compared with."""

    ngrams: NDArray[np.uint64]
    """Sorted hashes of the evaluation sets' 13-word sequences."""
    ids: frozenset[str]
    """Ids of documents and PMIDs."""

    def reason(self, document: Document, text: str) -> str | None:
        """Return why a document is dropped, or None; ``text`` is its normalised text, not yet masked."""
        if self.ids and not self.ids.isdisjoint(_names(document)):
            return "listed"
        return "contaminated" if is_contaminated(text, self.ngrams) else None


def prepare_ngrams(area: WorkArea, section: DecontaminationSection) -> EvaluationNgrams:
    """Write the 13-word sequences of the evaluation sets into the work area."""

    def run() -> EvaluationNgrams:
        ngrams = evaluation_ngrams(_bounded_texts(section.paths))
        area.put_array(ngrams, _EVALUATION)
        return EvaluationNgrams(len(ngrams))

    return area.once("evaluation", run, EvaluationNgrams)


@lru_cache(maxsize=1)
def load_decontamination(area: WorkArea, section: DecontaminationSection) -> Decontamination:
    """Return what ``section`` names; the worker process keeps it for its next units."""
    ngrams = np.empty(0, dtype=np.uint64)
    if section.paths:
        with tempfile.TemporaryDirectory() as folder:
            ngrams = np.array(area.get_array(_EVALUATION, Path(folder)))
    return Decontamination(ngrams, frozenset[str]().union(*map(listed_ids, section.id_lists)))


def listed_ids(path: str) -> frozenset[str]:
    """Return the ids of a list, one a line; raises ``SourceError`` where it is no UTF-8 file or names no id."""
    try:
        text = local_copy(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(
            f"decontamination.id_lists: {path!r} cannot be read ({type(error).__name__}); expected UTF-8 text with one id a line"
        ) from None
    ids = frozenset(line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#"))
    if not ids:
        raise SourceError(f"decontamination.id_lists: {path!r} names no id; expected one PMID or document id a line")
    return ids


def _names(document: Document) -> Iterator[str]:
    yield document.id
    if document.record is not None:
        yield document.record
    name, _, number = document.group.partition(":")
    if name == "pmid":  # full text goes with its citation
        yield number


def _bounded_texts(paths: tuple[str, ...]) -> Iterator[str]:
    from clinical_modernbert.sources.evaluation_sets import evaluation_texts

    for path in paths:
        words = 0
        for text in evaluation_texts(local_copy(path)):
            words += text.count(" ")
            if words > MOST_NGRAMS:
                raise SourceError(
                    f"decontamination.paths: {path!r} has more than {MOST_NGRAMS:,} words; name the queries and judged texts of "
                    "a retrieval set, not its pool, or list the ids of documents in decontamination.id_lists"
                )
            yield normalise(text)
