"""Documents that would leak an evaluation set: those that share 13 words with one of its texts, and those that a list names.

Both sides are compared in the normalised form, before identifiers are masked: a mask in every 13 words would hide an overlap.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clinical_modernbert.artifacts.remote_files import local_copy
from clinical_modernbert.artifacts.work_area import WorkArea
from clinical_modernbert.corpus.dedup.shingles import DECONTAMINATION_WORDS, evaluation_ngrams, shared_ngrams
from clinical_modernbert.corpus.normalise import normalise
from clinical_modernbert.corpus.results import EvaluationNgrams, EvaluationSet
from clinical_modernbert.errors import SourceError
from clinical_modernbert.recipe.corpus import DecontaminationSection
from clinical_modernbert.sources.document import Document

# 1.6 GB, and as much again while they are sorted. PubMed's abstracts have 40 times as many.
MOST_NGRAMS = 200_000_000
_NGRAMS, _COMBINATION = "evaluation.npy", "evaluation_sets.npy"


@dataclass(frozen=True, slots=True)
class Leak:
    """Why a document is dropped, and the evaluation sets that it would leak."""

    reason: str
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Decontamination:
    """What documents are compared with."""

    ngrams_N: NDArray[np.uint64]
    """Sorted hashes of the evaluation sets' 13-word sequences."""
    combination_N: NDArray[np.uint16]
    """The combination of sets that have the sequence."""
    combinations: Sequence[Sequence[str]]
    """The paths of each combination."""
    ids: Mapping[str, frozenset[str]]
    """Ids of documents and PMIDs by the path of their list."""

    def leak(self, document: Document, text: str) -> Leak | None:
        """Return what a document would leak, or None; ``text`` is its normalised text, not yet masked."""
        names = frozenset(_names(document)) if self.ids else frozenset[str]()
        lists = tuple(path for path, ids in self.ids.items() if not ids.isdisjoint(names))
        if lists:
            return Leak("listed", lists)
        found = np.unique(self.combination_N[shared_ngrams(text, self.ngrams_N)])
        paths = dict.fromkeys(path for number in found for path in self.combinations[number])
        return Leak("contaminated", tuple(paths)) if paths else None


def prepare_ngrams(area: WorkArea, section: DecontaminationSection) -> EvaluationNgrams:
    """Write the 13-word sequences of the evaluation sets into the work area."""

    def run() -> EvaluationNgrams:
        sets, (ngrams_N, combination_N, combinations) = _read_sets(section)
        area.put_array(ngrams_N, _NGRAMS)
        area.put_array(combination_N, _COMBINATION)
        return EvaluationNgrams(sets, combinations)

    return area.once("evaluation", run, EvaluationNgrams)


_United = tuple[NDArray[np.uint64], NDArray[np.uint16], tuple[tuple[int, ...], ...]]


def _read_sets(section: DecontaminationSection) -> tuple[tuple[EvaluationSet, ...], _United]:
    sets, of_sets = [], []
    for path in section.paths:
        texts = _Counted(bounded_texts(path))
        of_sets.append(evaluation_ngrams(texts))
        sets.append(EvaluationSet(path, texts.number, DECONTAMINATION_WORDS, len(of_sets[-1])))
    return tuple(sets), united(of_sets)


def in_memory(section: DecontaminationSection) -> Decontamination:
    """Return what ``section`` names, for a process that works alone and keeps nothing in a work area."""
    _, (ngrams_N, combination_N, numbers) = _read_sets(section)
    combinations = [[section.paths[number] for number in combination] for combination in numbers]
    return Decontamination(ngrams_N, combination_N, combinations, {path: listed_ids(path) for path in section.id_lists})


def united(sets: Sequence[NDArray[np.uint64]]) -> _United:
    """Return the sequences of all sets, the combination of sets that has each, and the combinations.

    Example: of the sets [5, 7] and [7, 9] the sequences are [5, 7, 9], their combinations [1, 2, 0] of (1,), (0,), (0, 1)
    in the order in which they are numbered.
    """
    ngrams_N = np.unique(np.concatenate([np.empty(0, dtype=np.uint64), *sets]))
    combination_N = np.zeros(len(ngrams_N), dtype=np.uint16)
    combinations: list[tuple[int, ...]] = [()]
    for number, of_set in enumerate(sets):
        # Each combination so far becomes two, without and with this set; those that no sequence has are left out.
        pair_N = 2 * combination_N.astype(np.uint32)
        pair_N[np.searchsorted(ngrams_N, of_set)] += 1
        pairs = np.flatnonzero(np.bincount(pair_N))
        combinations = [combinations[pair // 2] + (number,) * int(pair % 2) for pair in pairs]
        assert len(pairs) <= np.iinfo(np.uint16).max + 1, len(pairs)
        combination_N = np.searchsorted(pairs, pair_N).astype(np.uint16)
    return ngrams_N, combination_N, tuple(combinations)


@lru_cache(maxsize=1)
def load_decontamination(area: WorkArea, section: DecontaminationSection) -> Decontamination:
    """Return what ``section`` names; the worker process keeps it for its next units."""
    ids = {path: listed_ids(path) for path in section.id_lists}
    if not section.paths:
        return Decontamination(np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.uint16), (), ids)
    numbers = prepare_ngrams(area, section).combinations
    with tempfile.TemporaryDirectory() as folder:
        ngrams_N, combination_N = (np.array(area.get_array(name, Path(folder))) for name in (_NGRAMS, _COMBINATION))
    combinations = [[section.paths[number] for number in combination] for combination in numbers]
    return Decontamination(ngrams_N, combination_N, combinations, ids)


def evaluation_sets(area: WorkArea, section: DecontaminationSection) -> list[EvaluationSet]:
    """Return what the documents were compared with, in the recipe's order."""
    lists = [EvaluationSet(path, len(listed_ids(path)), None, 0) for path in section.id_lists]
    return [*(prepare_ngrams(area, section).sets if section.paths else ()), *lists]


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


class _Counted:
    """An iterator that counts what it yields."""

    def __init__(self, items: Iterator[str]) -> None:
        self._items, self.number = items, 0

    def __iter__(self) -> Iterator[str]:
        for item in self._items:
            self.number += 1
            yield item


def bounded_texts(path: str, *, by_cell: bool = False) -> Iterator[str]:
    """Yield the normalised texts of an evaluation set (of a table by row, or ``by_cell``); ``SourceError`` for too many."""
    from clinical_modernbert.sources.evaluation_sets import evaluation_texts

    words = 0
    for text in evaluation_texts(local_copy(path), by_cell=by_cell):
        words += text.count(" ")
        if words > MOST_NGRAMS:
            raise SourceError(
                f"decontamination.paths: {path!r} has more than {MOST_NGRAMS:,} words; name the queries and judged texts of "
                "a retrieval set, not its pool, or list the ids of documents in decontamination.id_lists"
            )
        yield normalise(text)
