"""Crosswalk retrieval: the description of an ICD-9-CM code must find its ICD-10-CM counterpart among all of them.

Chapter purity rises with shared words, because the codes of one category are near-duplicates. Counterparts are worded differently
in most cases, so finding them asks for meaning. The counterparts are those of CMS's General Equivalence Mappings; mappings that
need several codes together are left out. Rows of word counts stand next to the encoders.

Legend: Q queries, D candidates, W width.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clinical_modernbert.evaluation.codes.neighbours import clustered_mean
from clinical_modernbert.evaluation.report.schema import CrosswalkFigures
from clinical_modernbert.evaluation.tasks import trivial
from clinical_modernbert.evaluation.tasks.ranking import cosines
from clinical_modernbert.sources import code_group, code_table
from clinical_modernbert.sources.codes.relations import gem_location, read_gem

_CANDIDATES_A_QUERY = 10
"""Candidates of a sample, so that it stays small; without a sample all are candidates."""


@dataclass(frozen=True, slots=True)
class Crosswalk:
    """Queries, candidates, and which candidates are right."""

    queries: list[str]
    categories: list[str]
    """ICD-9-CM category of each query: its queries are drawn together."""
    candidates: list[str]
    answers: list[set[int]]
    """Numbers of each query's right candidates."""


def crosswalk(*, num_queries: int, all_candidates: bool, seed: int) -> Crosswalk:
    """Return ``num_queries`` ICD-9-CM codes drawn by ``seed``, and all ICD-10-CM codes of the mappings or a sample of them."""
    icd9 = {entry.code: entry.description for entry in code_table("icd9cm")}
    icd10 = {entry.code: entry.description for entry in code_table("icd10cm")}
    targets: dict[str, set[str]] = {}
    for mapping in read_gem(gem_location()):
        if not mapping.combination and mapping.icd9 in icd9 and mapping.icd10 in icd10:
            targets.setdefault(mapping.icd9, set()).add(mapping.icd10)
    rng = np.random.default_rng(seed)
    codes = sorted(targets)
    chosen = [codes[i] for i in np.sort(rng.permutation(len(codes))[:num_queries])]
    candidates = sorted(set().union(*targets.values()))
    if not all_candidates:
        needed = set().union(*(targets[code] for code in chosen))
        others = [code for code in candidates if code not in needed]
        kept = rng.permutation(len(others))[: max(_CANDIDATES_A_QUERY * num_queries - len(needed), 0)]
        candidates = sorted(needed | {others[i] for i in kept})
    numbers = {code: number for number, code in enumerate(candidates)}
    return Crosswalk(
        [icd9[code] for code in chosen],
        [code_group("icd9cm", code) for code in chosen],
        [icd10[code] for code in candidates],
        [{numbers[target] for target in targets[code]} for code in chosen],
    )


def encoder_figures(of: Crosswalk, embed: Callable[[list[str]], NDArray[np.float32]], *, seed: int) -> CrosswalkFigures:
    """Return how often an encoder's nearest candidates, by the cosine, are right."""
    return _figures(of, cosines(embed(of.queries), embed(of.candidates)), seed=seed)


def counting_figures(of: Crosswalk, *, seed: int) -> dict[str, CrosswalkFigures]:
    """Return the same of methods that count words or characters."""
    methods = {
        "BM25": trivial.bm25_scores(of.queries, of.candidates),
        "TF-IDF of words": trivial.tfidf_scores(of.queries, of.candidates),
        "TF-IDF of characters": trivial.tfidf_scores(of.queries, of.candidates, characters=True),
    }
    return {name: _figures(of, trivial.blocks(scores_QD), seed=seed) for name, scores_QD in methods.items()}


def _figures(of: Crosswalk, scores: Iterable[NDArray[Any]], *, seed: int) -> CrosswalkFigures:
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
    return CrosswalkFigures(
        queries=len(of.queries), candidates=len(of.candidates), recall_at_1=recall_at_1, recall_at_10=recall_at_10
    )
