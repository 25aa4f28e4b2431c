"""Hard negatives: for each anchor texts that are near its positive and mean something else.

Candidates are the positives of the same source and the same side of the split: a held-out name is not shown in training, not even
as a negative. Of them a method gives the nearest ones, and what may mean the same is passed over:

1. the concepts of the pair, those above them, and those below (below the positive not where it is the anchor's parent);
2. texts and concepts that one or two pairs of the set join with the pair's texts and concepts, hierarchy apart;
3. groups that are held out with those of the pair (an ICD-10-CM category with its ICD-9-CM category, a term with what it refers
   to), because they mean the same.

Example: "kidney failure" (``doid:1074``) with the positive "renal failure". "Unspecified kidney failure" (``icd10cm:N19``) is
passed over: a cross reference joins the term with ``icd9cm:586``, the crosswalk that with N19. "Hepatic failure" is a negative.

Memory grows with the pairs, not with their square: queries are ranked a block at a time.
"""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clinical_modernbert.bm25 import bm25
from clinical_modernbert.corpus.pairs.name_keys import name_keys
from clinical_modernbert.hashing import text_sha256
from clinical_modernbert.recipe.pairs import NegativesSection
from clinical_modernbert.sources.terms import Follows, Term, TermPair, text_key

Embed = Callable[[Sequence[str]], NDArray[np.float32]]
"""Texts -> vectors of length 1."""
Ranked = Iterator[list[int]]
"""For each pair the candidates, the nearest first."""

_logger = logging.getLogger(__name__)
_BLOCK = 256  # queries at a time


@dataclass(slots=True)
class Mined:
    """The negatives of each pair, and what happened to the candidates."""

    negatives: list[tuple[Term, ...]]
    passed_over: int = 0
    """Near candidates that may mean the same."""

    def to_json(self) -> dict[str, int]:
        """Return the counts as the manifest holds them."""
        return {
            "pairs_with": sum(map(bool, self.negatives)),
            "negatives": sum(map(len, self.negatives)),
            "passed_over": self.passed_over,
        }


def mine_negatives(
    pairs: Sequence[TermPair],
    places: Sequence[tuple[str, str]],
    section: NegativesSection,
    embed: Embed | None,
    *,
    follows: Iterable[Follows] = (),
    parents: Mapping[str, set[str]],
) -> Mined:
    """Return the negatives of each pair; ``places`` has the source and split of each, ``embed`` serves the method ``model``.

    ``parents`` are the concepts above a concept where its lineage does not name them.
    """
    same, mined = _SameMeaning.of(pairs, follows, parents), Mined([() for _ in pairs])
    members: dict[tuple[str, str], list[int]] = defaultdict(list)
    for number, place in enumerate(places):
        members[place].append(number)
    for numbers in members.values():
        own = [pairs[number] for number in numbers]
        candidates = list({text_key(pair.positive.text): pair.positive for pair in own}.values())
        keys = [name_keys(candidate.text) for candidate in candidates]
        for number, pair, ranked in zip(numbers, own, _ranked(own, candidates, section, embed), strict=True):
            refused = same.as_pair(pair)
            chosen: list[Term] = []
            for at in ranked:
                if same.holds(candidates[at], keys[at], pair, refused):
                    mined.passed_over += 1
                elif len(chosen) < section.per_pair:
                    chosen.append(candidates[at])
                if len(chosen) == section.per_pair:
                    break
            mined.negatives[number] = tuple(chosen)
    if not any(mined.negatives):
        remedy = "; it needs concepts with one parent (codes, MeSH)" if section.method == "siblings" else ""
        _logger.warning("negatives.method=%s found no negative of %d pairs%s", section.method, len(pairs), remedy)
    return mined


@dataclass(slots=True)
class _SameMeaning:
    """What the whole set says about which texts and concepts mean the same."""

    joined: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Concept, or words of a text -> concepts and words that a pair joins with it."""
    linked: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Group -> groups that are held out with it."""
    parents: Mapping[str, set[str]] = field(default_factory=dict)
    _above: dict[str, set[str]] = field(default_factory=dict)

    @classmethod
    def of(
        cls, pairs: Sequence[TermPair], follows: Iterable[Follows], parents: Mapping[str, set[str]]
    ) -> "_SameMeaning":
        same = cls(parents=parents)
        for pair in pairs:
            if pair.relation != "parent":
                sides = _nodes(pair.anchor), _nodes(pair.positive)
                for one, other in (sides, sides[::-1]):
                    for node in one:
                        same.joined[node] |= other
        for link in follows:
            same.linked[link.follower].add(link.leader)
            same.linked[link.leader].add(link.follower)
        return same

    def as_pair(self, pair: TermPair) -> set[str]:
        """Return the concepts and words that mean the same as the pair's."""
        nodes = _nodes(pair.anchor) | _nodes(pair.positive)
        for _ in range(2):
            nodes = nodes.union(*(self.joined[node] for node in nodes if node in self.joined))
        return nodes.union(pair.anchor.lineage, pair.positive.lineage)

    def holds(self, candidate: Term, keys: frozenset[str], pair: TermPair, refused: set[str]) -> bool:
        """Return whether a candidate may mean the same as a pair; ``refused`` is ``as_pair`` of it."""
        if (
            not refused.isdisjoint(keys)
            or candidate.lineage[0] in refused
            or pair.anchor.lineage[0] in candidate.lineage
        ):
            return True
        if pair.relation != "parent" and pair.positive.lineage[0] in candidate.lineage:
            return True
        concepts = {pair.anchor.lineage[0], pair.positive.lineage[0]}
        if candidate.lineage[0] in self.above(pair.anchor.lineage[0]) | self.above(
            pair.positive.lineage[0]
        ) or concepts & self.above(candidate.lineage[0]):
            return True
        own = {pair.anchor.group, pair.positive.group}
        return candidate.group not in own and any(candidate.group in self.linked.get(group, ()) for group in own)

    def above(self, concept: str) -> set[str]:
        """Return all concepts above one in its ontology."""
        return all_above(concept, self.parents, self._above)


def all_above(concept: str, parents: Mapping[str, set[str]], known: dict[str, set[str]]) -> set[str]:
    """Return all concepts above one in its ontology, of any depth; ``known`` keeps them for the next call."""
    if concept not in known:
        found, open_ = set[str](), [concept]
        while open_:
            new = parents.get(open_.pop(), set()) - found
            found |= new
            open_.extend(new)
        known[concept] = found
    return known[concept]


def _nodes(term: Term) -> set[str]:
    return {term.lineage[0], *name_keys(term.text)}


def _ranked(
    pairs: Sequence[TermPair], candidates: Sequence[Term], section: NegativesSection, embed: Embed | None
) -> Ranked:
    if section.method == "siblings":
        return _siblings(pairs, candidates)
    if section.method == "bm25":
        return _by_words(pairs, candidates, section.nearest)
    assert embed is not None  # the job has a model wherever the recipe names one
    return _by_vectors(pairs, candidates, section, embed)


def _siblings(pairs: Sequence[TermPair], candidates: Sequence[Term]) -> Ranked:
    """Yield the candidates right below what is right above the positive, from a place that the anchor's text decides."""
    below: dict[str, list[int]] = defaultdict(list)
    for place, candidate in enumerate(candidates):
        for parent in candidate.lineage[1:2]:
            below[parent].append(place)
    for pair in pairs:
        found = below[pair.positive.lineage[1]] if len(pair.positive.lineage) > 1 else []
        start = int(text_sha256(pair.anchor.text)[:8], 16) % max(len(found), 1)
        yield found[start:] + found[:start]


def _by_words(pairs: Sequence[TermPair], candidates: Sequence[Term], nearest: int) -> Ranked:
    scores = bm25([candidate.text for candidate in candidates])
    for block in _blocks(pairs):
        rows = scores([pair.anchor.text for pair in block]).tocsr()
        for row in range(len(block)):
            start, end = rows.indptr[row], rows.indptr[row + 1]
            yield _best(rows.data[start:end], rows.indices[start:end], nearest)


def _by_vectors(
    pairs: Sequence[TermPair], candidates: Sequence[Term], section: NegativesSection, embed: Embed
) -> Ranked:
    vectors_CD = embed([candidate.text for candidate in candidates])
    everything = np.arange(len(candidates))
    for block in _blocks(pairs):
        anchors_BD, positives_BD = (
            embed([getattr(pair, side).text for pair in block]) for side in ("anchor", "positive")
        )
        scores_BC = anchors_BD @ vectors_CD.T
        # A candidate nearer than this is rather an unknown synonym than a negative.
        limits_B = (1 - section.margin) * (anchors_BD * positives_BD).sum(1)
        for scores_C, limit in zip(scores_BC, limits_B, strict=True):
            below = scores_C < limit
            yield _best(scores_C[below], everything[below], section.nearest)


def _best(scores: NDArray[Any], places: NDArray[Any], number: int) -> list[int]:
    """Return the places of the highest scores, of equal ones the first place."""
    if len(scores) > number:
        kept = np.argpartition(-scores, number - 1)[:number]
        scores, places = scores[kept], places[kept]
    found: list[int] = places[np.lexsort((places, -scores))].tolist()
    return found


def _blocks(pairs: Sequence[TermPair]) -> Iterator[Sequence[TermPair]]:
    for start in range(0, len(pairs), _BLOCK):
        yield pairs[start : start + _BLOCK]
