"""Look-up of codes by words: what an encoder's vectors are used for, on concepts that a pair set held out.

- ``crosswalk``: the description of a held-out ICD-9-CM code has to find one of its ICD-10-CM counterparts (GEM).
- ``lay``: a name of a disease that refers to a held-out ICD-9-CM category has to find a code of that category.
- ``purity``: the share of the 10 nearest codes of a held-out ICD-9-CM code that are of its chapter.

Purity rises with likeness of spelling; the look-ups are the evidence. Character TF-IDF and BM25 are next to every encoder: what
shared letters and words alone give.

Legend: Q queries, C candidates, D width.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from clinical_modernbert.artifacts import Artifact
from clinical_modernbert.corpus import is_held_out
from clinical_modernbert.corpus.pairs.build import LINKS_NAME, TERMS_NAME
from clinical_modernbert.evaluation.codes.neighbours import nearest
from clinical_modernbert.evaluation.tasks.ranking import unit
from clinical_modernbert.recipe.corpus import HeldOutSection
from clinical_modernbert.sources import CodeEntry, code_group, code_table
from clinical_modernbert.sources.codes.relations import gem_location, read_gem
from clinical_modernbert.statistics import mean_intervals

_BLOCK = 256
_NUM_RESAMPLES = 1000
_PURITY_NEIGHBOURS = 10

Similarity = Callable[[Sequence[str], Sequence[str]], Callable[[slice], NDArray[np.float32]]]
"""From queries and candidates to a function that gives the similarities of a block of queries, [Q, C]."""


@dataclass(frozen=True, slots=True)
class LookUp:
    """Queries, the texts among which they search, and the right ones."""

    queries: Sequence[str]
    candidates: Sequence[str]
    right: Sequence[frozenset[int]]
    """For each query the numbers of the candidates that answer it."""
    groups: Sequence[str]
    """For each query its ICD-9-CM category; intervals draw whole categories."""


@dataclass(frozen=True, slots=True)
class Recall:
    """Share of queries with a right answer among the first 1 and 10, with the 95 % interval of the first."""

    at_1: float
    at_10: float
    low: float
    high: float


def crosswalk_look_up(section: HeldOutSection, *, max_queries: int = 1500, seed: int = 0) -> LookUp:
    """Return held-out ICD-9-CM codes with a counterpart, a fixed sample, among all ICD-10-CM codes that are one.

    Mappings that need several codes together are left out.
    """
    icd9 = {entry.code: entry.description for entry in code_table("icd9cm")}
    icd10 = {entry.code: entry.description for entry in code_table("icd10cm")}
    targets: dict[str, set[str]] = {}
    for mapping in read_gem(gem_location()):
        if not mapping.combination and mapping.icd9 in icd9 and mapping.icd10 in icd10:
            targets.setdefault(mapping.icd9, set()).add(mapping.icd10)
    number = {code: n for n, code in enumerate(sorted({code for codes in targets.values() for code in codes}))}
    held_out = [code for code in sorted(targets) if is_held_out(code_group("icd9cm", code), section)]
    chosen = np.sort(np.random.default_rng(seed).permutation(len(held_out))[:max_queries])
    queries = [held_out[i] for i in chosen]
    return LookUp(
        queries=[icd9[code] for code in queries],
        candidates=[icd10[code] for code in number],
        right=[frozenset(number[target] for target in targets[code]) for code in queries],
        groups=[code_group("icd9cm", code) for code in queries],
    )


def lay_look_up(pairs: Artifact) -> LookUp | None:
    """Return the names of diseases that refer to held-out categories, among all ICD-9-CM codes; None without any.

    A name that is itself the description of a code is left out: it needs no knowledge.
    """
    codes = code_table("icd9cm")
    of_group: dict[str, list[int]] = {}
    for number, entry in enumerate(codes):
        of_group.setdefault(code_group("icd9cm", entry.code), []).append(number)
    section = HeldOutSection.model_validate(pairs.manifest.recipe["held_out"])
    categories: dict[str, set[str]] = {}
    for link in pq.read_table(pairs.file(LINKS_NAME)).to_pylist():
        if link["leader"] in of_group and not link["follower"].startswith("icd10cm:"):
            categories.setdefault(link["follower"], set()).add(link["leader"])
    found: dict[str, tuple[frozenset[int], str]] = {}
    for term in pq.read_table(pairs.file(TERMS_NAME)).to_pylist():
        groups = categories.get(term["concept"], set())
        if groups and all(is_held_out(group, section) for group in groups):
            right = frozenset(number for group in groups for number in of_group[group])
            found.setdefault(term["text"], (right, min(groups)))
    if not found:
        return None
    return LookUp(
        queries=list(found),
        candidates=[entry.description for entry in codes],
        right=[right for right, _ in found.values()],
        groups=[group for _, group in found.values()],
    )


def recall(look_up: LookUp, similarity: Similarity, *, seed: int = 0) -> Recall:
    """Return how often the first 1 and 10 of each query's ranking have a right answer."""
    of_block = similarity(look_up.queries, look_up.candidates)
    hits_Q2 = np.zeros((len(look_up.queries), 2))
    for start in range(0, len(look_up.queries), _BLOCK):
        scores_QC = of_block(slice(start, start + _BLOCK))
        top_QK = np.argsort(-scores_QC, axis=1, kind="stable")[:, :10]
        for row, ranked in enumerate(top_QK.tolist()):
            right = look_up.right[start + row]
            hits_Q2[start + row] = ranked[0] in right, not right.isdisjoint(ranked)
    numbers = np.unique(look_up.groups, return_inverse=True)[1]
    sums, counts = (np.bincount(numbers, weights).astype(np.float64) for weights in (hits_Q2[:, 0], None))
    low, high = mean_intervals(sums[:, None], counts, num_resamples=_NUM_RESAMPLES, seed=seed)[:, 0].tolist()
    return Recall(at_1=float(hits_Q2[:, 0].mean()), at_10=float(hits_Q2[:, 1].mean()), low=low, high=high)


def held_out_purity(
    embed: Callable[[Sequence[str]], NDArray[np.float32]],
    section: HeldOutSection,
    *,
    table: Sequence[CodeEntry] | None = None,
) -> float:
    """Return the chapter purity at 10 of the held-out ICD-9-CM codes, neighbours among all codes."""
    codes = table or code_table("icd9cm")
    chapters_C = np.unique([entry.chapter_id for entry in codes], return_inverse=True)[1]
    judged_C = np.array([is_held_out(code_group("icd9cm", entry.code), section) for entry in codes])
    index_CK, _ = nearest(embed([entry.description for entry in codes]), k=_PURITY_NEIGHBOURS)
    return float((chapters_C[index_CK[judged_C]] == chapters_C[judged_C][:, None]).mean())


def by_vectors(embed: Callable[[Sequence[str]], NDArray[np.float32]]) -> Similarity:
    """Return the cosine of an encoder's vectors."""

    def similarity(queries: Sequence[str], candidates: Sequence[str]) -> Callable[[slice], NDArray[np.float32]]:
        queries_QD, candidates_CD = unit(embed(queries)), unit(embed(candidates))
        return lambda block: queries_QD[block] @ candidates_CD.T

    return similarity


def by_characters(queries: Sequence[str], candidates: Sequence[str]) -> Callable[[slice], NDArray[np.float32]]:
    """Return the cosine of TF-IDF vectors of character 3- to 5-grams, fitted on the candidates."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True, dtype=np.float32)
    documents = vectorizer.fit_transform(candidates)
    asked = vectorizer.transform(queries)
    return lambda block: (asked[block] @ documents.T).toarray()


def by_bm25(queries: Sequence[str], candidates: Sequence[str]) -> Callable[[slice], NDArray[np.float32]]:
    """Return Okapi BM25 (k1 1.2, b 0.75) of words, as Lucene defines its inverse document frequency."""
    from scipy.sparse import csr_matrix, diags
    from sklearn.feature_extraction.text import CountVectorizer

    vectorizer = CountVectorizer(token_pattern=r"(?u)\b\w+\b")
    counts = csr_matrix(vectorizer.fit_transform(candidates), dtype=np.float32)
    lengths = np.asarray(counts.sum(1)).ravel()
    frequency = np.asarray((counts > 0).sum(0)).ravel()
    inverse = np.log(1 + (len(candidates) - frequency + 0.5) / (frequency + 0.5))
    weighted = counts.copy()
    norm = 1.2 * (0.25 + 0.75 * np.repeat(lengths, np.diff(counts.indptr)) / lengths.mean())
    weighted.data = counts.data * 2.2 / (counts.data + norm)
    documents = (weighted @ diags(inverse)).T.tocsr()
    asked = csr_matrix(vectorizer.transform(queries), dtype=np.float32)
    return lambda block: (asked[block] @ documents).toarray()
