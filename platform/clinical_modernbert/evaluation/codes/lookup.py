"""Look-up of codes by words, which asks for meaning where chapter purity rewards shared letters.

- Crosswalk: the description of an ICD-9-CM code must find its ICD-10-CM counterpart among all of them. The counterparts are those
  of CMS's General Equivalence Mappings; mappings that need several codes together are left out.
- Lay words: what patients and busy clinicians write ("heart attack", "AFib") must find a code that it means.
- Lay terms: a name of a disease must find a code of the ICD-9-CM category that it refers to.

Most queries are worded differently from their answers. Rows of word counts stand next to the encoders: what shared letters and
words alone give.

Legend: Q queries, D candidates, W width.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from clinical_modernbert.artifacts import Artifact
from clinical_modernbert.corpus import is_held_out
from clinical_modernbert.corpus.pairs.build import LINKS_NAME, TERMS_NAME
from clinical_modernbert.encoder.neighbours import nearest
from clinical_modernbert.evaluation.codes.neighbours import clustered_mean
from clinical_modernbert.evaluation.report.schema import LookUpFigures
from clinical_modernbert.evaluation.tasks import trivial
from clinical_modernbert.evaluation.tasks.ranking import cosines
from clinical_modernbert.recipe.corpus import HeldOutSection
from clinical_modernbert.sources import CodeEntry, code_group, code_table
from clinical_modernbert.sources.codes.lay_words import lay_words
from clinical_modernbert.sources.codes.relations import gem_location, read_gem

_CANDIDATES_A_QUERY = 10
"""Candidates of a sample, so that it stays small; without a sample all are candidates."""
_PURITY_NEIGHBOURS = 10

Embed = Callable[[Sequence[str]], NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class LookUp:
    """Queries, candidates, and which candidates are right."""

    queries: list[str]
    categories: list[str]
    """ICD-9-CM category of each query: its queries are drawn together."""
    entries: list[CodeEntry]
    """The candidates."""
    answers: list[set[int]]
    """Numbers of each query's right candidates."""
    concepts: list[set[str]]
    """ICD-9-CM categories that each query is about."""

    @property
    def candidates(self) -> list[str]:
        """Descriptions of the candidates."""
        return [entry.description for entry in self.entries]

    def about(self, categories: set[str]) -> "LookUp":
        """Return the queries that are about nothing but these categories, among all candidates."""
        kept = [number for number, concepts in enumerate(self.concepts) if concepts <= categories]
        return LookUp(
            [self.queries[number] for number in kept],
            [self.categories[number] for number in kept],
            self.entries,
            [self.answers[number] for number in kept],
            [self.concepts[number] for number in kept],
        )


def crosswalk(*, num_queries: int, all_candidates: bool, seed: int, held_out: HeldOutSection | None = None) -> LookUp:
    """Return ``num_queries`` ICD-9-CM codes drawn by ``seed``, and all ICD-10-CM codes of the mappings or a sample of them.

    With ``held_out``, the queries are drawn from the codes of the categories that it holds out.
    """
    icd9 = {entry.code: entry.description for entry in code_table("icd9cm")}
    icd10 = {entry.code: entry for entry in code_table("icd10cm")}
    targets: dict[str, set[str]] = {}
    for mapping in read_gem(gem_location()):
        if not mapping.combination and mapping.icd9 in icd9 and mapping.icd10 in icd10:
            targets.setdefault(mapping.icd9, set()).add(mapping.icd10)
    rng = np.random.default_rng(seed)
    codes = [code for code in sorted(targets) if not held_out or is_held_out(code_group("icd9cm", code), held_out)]
    chosen = [codes[i] for i in np.sort(rng.permutation(len(codes))[:num_queries])]
    candidates = sorted(set().union(*targets.values()))
    if not all_candidates:
        needed = set().union(*(targets[code] for code in chosen))
        others = [code for code in candidates if code not in needed]
        kept = rng.permutation(len(others))[: max(_CANDIDATES_A_QUERY * num_queries - len(needed), 0)]
        candidates = sorted(needed | {others[i] for i in kept})
    numbers = {code: number for number, code in enumerate(candidates)}
    return LookUp(
        [icd9[code] for code in chosen],
        [code_group("icd9cm", code) for code in chosen],
        [icd10[code] for code in candidates],
        [{numbers[target] for target in targets[code]} for code in chosen],
        [{code_group("icd9cm", code)} for code in chosen],
    )


def lay_words_among(entries: Sequence[CodeEntry]) -> LookUp:
    """Return the phrases of ``sources/codes/lay_words.tsv`` that mean one of these ICD-9-CM codes, all of which are candidates.

    Phrases of one meaning are drawn together.
    """
    codes = [entry.code.replace(".", "") for entry in entries]
    found = [
        (word, answers)
        for word in lay_words("icd9cm")
        if (answers := {number for number, code in enumerate(codes) if code.startswith(word.codes)})
    ]
    return LookUp(
        [word.phrase for word, _ in found],
        [" ".join(word.codes) for word, _ in found],
        list(entries),
        [answers for _, answers in found],
        [{code_group("icd9cm", entries[number].code) for number in answers} for _, answers in found],
    )


def lay_terms(pairs: Artifact) -> LookUp | None:
    """Return the names of diseases that refer to categories the pair set held out, among all ICD-9-CM codes; None without any."""
    codes = code_table("icd9cm")
    of_group: dict[str, list[int]] = {}
    for number, entry in enumerate(codes):
        of_group.setdefault(code_group("icd9cm", entry.code), []).append(number)
    section = HeldOutSection.model_validate(pairs.manifest.recipe["held_out"])
    categories: dict[str, set[str]] = {}
    for link in pq.read_table(pairs.file(LINKS_NAME)).to_pylist():
        if link["leader"] in of_group and not link["follower"].startswith("icd10cm:"):
            categories.setdefault(link["follower"], set()).add(link["leader"])
    found: dict[str, tuple[set[int], set[str]]] = {}
    for term in pq.read_table(pairs.file(TERMS_NAME)).to_pylist():
        groups = categories.get(term["concept"], set())
        if groups and all(is_held_out(group, section) for group in groups):
            right = {number for group in groups for number in of_group[group]}
            found.setdefault(term["text"], (right, groups))
    if not found:
        return None
    return LookUp(
        list(found),
        [min(groups) for _, groups in found.values()],
        list(codes),
        [right for right, _ in found.values()],
        [groups for _, groups in found.values()],
    )


def encoder_figures(
    of: LookUp, embed: Embed, *, seed: int, candidates_DW: NDArray[np.float32] | None = None
) -> LookUpFigures:
    """Return how often an encoder's nearest candidates, by the cosine, are right; ``candidates_DW`` saves embedding them."""
    if candidates_DW is None:
        candidates_DW = embed(of.candidates)
    return _figures(of, cosines(embed(of.queries), candidates_DW), seed=seed)


def counting_figures(of: LookUp, *, seed: int) -> dict[str, LookUpFigures]:
    """Return the same of methods that count words or characters."""
    methods = {
        "BM25": trivial.bm25_scores(of.queries, of.candidates),
        "TF-IDF of words": trivial.tfidf_scores(of.queries, of.candidates),
        "TF-IDF of characters": trivial.tfidf_scores(of.queries, of.candidates, characters=True),
    }
    return {name: _figures(of, trivial.blocks(scores_QD), seed=seed) for name, scores_QD in methods.items()}


def _figures(of: LookUp, scores: Iterable[NDArray[Any]], *, seed: int) -> LookUpFigures:
    at_1: list[bool] = []
    at_10: list[bool] = []
    answers = iter(of.answers)
    for scores_BD in scores:
        for scores_D in scores_BD:
            right = next(answers)
            # Stable: of equal scores the first candidate, whatever the method.
            best = np.argsort(-scores_D, kind="stable")[:10].tolist()
            at_1.append(best[0] in right)
            at_10.append(any(number in right for number in best))
    recall_at_1, recall_at_10 = (
        clustered_mean(np.array(hits, dtype=np.float64), np.array(of.categories), seed=seed) for hits in (at_1, at_10)
    )
    return LookUpFigures(
        queries=len(of.queries), candidates=len(of.candidates), recall_at_1=recall_at_1, recall_at_10=recall_at_10
    )


def held_out_purity(embed: Embed, section: HeldOutSection, *, table: Sequence[CodeEntry] | None = None) -> float:
    """Return the chapter purity at 10 of the held-out ICD-9-CM codes, neighbours among all codes."""
    codes = table or code_table("icd9cm")
    chapters_D = np.unique([entry.chapter_id for entry in codes], return_inverse=True)[1]
    judged_D = np.array([is_held_out(code_group("icd9cm", entry.code), section) for entry in codes])
    index_DK, _ = nearest(embed([entry.description for entry in codes]), k=_PURITY_NEIGHBOURS)
    return float((chapters_D[index_DK[judged_D]] == chapters_D[judged_D][:, None]).mean())
