"""The held-out pairs on which all models of a sweep are scored, and their scores: each anchor has to find its positive.

An arm may train on another pair set than the sweep's, which may not hold out the same concepts. So only those held-out pairs of
the sweep's set are scored of which no set of an arm trains on both sides, by text or by concept.

Legend: N pairs of a source, D width.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from clinical_modernbert.artifacts import Artifact, open_store, resolve
from clinical_modernbert.corpus.pairs.read import PairTexts, name_id, read_pair_set
from clinical_modernbert.encoder import load_export, pooling_of
from clinical_modernbert.errors import RecipeError
from clinical_modernbert.evaluation.codes.vectors import encoder_vectors
from clinical_modernbert.sources.terms import text_key
from clinical_modernbert.sweeps.scores import GroupScores, summed
from clinical_modernbert.training.contrastive.batches import PairBatch, with_ids
from clinical_modernbert.training.contrastive.loss import same_meaning

_BATCH_TOKENS = 16_384


@dataclass(frozen=True, slots=True)
class ScoredPairs:
    """The scored pairs of one source."""

    pairs: PairBatch
    groups_N: NDArray[np.uint64]
    """Category of each pair's anchor: its pairs are drawn together."""

    @property
    def digest(self) -> str:
        """Digest of the pairs and their groups."""
        texts = self.pairs.anchor_texts_N.tobytes() + self.pairs.positive_texts_N.tobytes()
        return hashlib.sha256(texts + self.groups_N.tobytes()).hexdigest()


def pairs_to_score(pairs: Artifact, trained_on: Iterable[Artifact], *, max_pairs: int) -> dict[str, ScoredPairs]:
    """Return the held-out pairs of each source of ``pairs`` that none of the sets ``trained_on`` trains on.

    Raises ``RecipeError`` if no source has two of them.
    """
    others = [other for other in trained_on if other.manifest.digest != pairs.manifest.digest]
    known = [_Known.of(other) for other in others]
    found = {}
    for source, held_out in read_pair_set(pairs, split="held_out").items():
        rows = np.array([n for n in range(len(held_out)) if not any(k.has_both_sides(held_out, n) for k in known)], int)
        everything = with_ids(held_out).take(rows)
        # Distinct positives, as in the figures of a run, drawn evenly.
        order = np.random.default_rng(0).permutation(len(rows))
        _, first = np.unique(everything.positive_texts_N[order], return_index=True)
        chosen = order[np.sort(first)[:max_pairs]]
        if len(chosen) > 1:
            groups_N = np.array([_group(held_out, row) for row in rows[chosen].tolist()], dtype=np.uint64)
            found[source] = ScoredPairs(everything.take(chosen), groups_N)
    if not found:
        names = ", ".join(other.manifest.id for other in others)
        why = f"that {names} do not train on" if names else "at all"
        raise RecipeError(f"pairs: {pairs.manifest.id} holds out no two pairs of a source {why}")
    return found


def score_pairs(model_id: str, *, store_uri: str, pairs: Mapping[str, ScoredPairs]) -> dict[str, GroupScores]:
    """Score one model: source -> scores by category. Runs as a Ray task of one CPU."""
    torch.set_num_threads(1)
    model = resolve(open_store(store_uri), "model", model_id)
    pooling = pooling_of(model, None)
    encoder = load_export(model.folder("model"))
    texts = sorted({text for of in pairs.values() for side in (of.pairs.anchors, of.pairs.positives) for text in side})
    vectors_XD = encoder_vectors(encoder, texts, pooling=pooling, max_batch_tokens=_BATCH_TOKENS)
    vectors_XD /= np.maximum(np.linalg.norm(vectors_XD, axis=1, keepdims=True), 1e-12)
    place = {text: number for number, text in enumerate(texts)}
    return {
        source: rank_scores(
            of,
            vectors_XD[[place[text] for text in of.pairs.anchors]],
            vectors_XD[[place[text] for text in of.pairs.positives]],
        )
        for source, of in pairs.items()
    }


def rank_scores(of: ScoredPairs, anchors_ND: NDArray[np.float32], positives_ND: NDArray[np.float32]) -> GroupScores:
    """Return recall and reciprocal rank by group, from vectors of unit length.

    A pair's rank is the number of other positives at least as near to its anchor; those that mean the same do not count.
    """
    cosines_NN = anchors_ND @ positives_ND.T
    pairs = of.pairs
    same_NN = same_meaning(
        torch.from_numpy(pairs.anchor_concepts_NL),
        torch.from_numpy(pairs.positive_concepts_NL),
        torch.from_numpy(pairs.anchor_texts_N),
        torch.from_numpy(pairs.positive_texts_N),
    ).numpy()
    np.fill_diagonal(same_NN, True)
    ranks_N = ((cosines_NN >= cosines_NN.diagonal()[:, None]) & ~same_NN).sum(1)
    values = {
        "recall1": (ranks_N < 1).astype(np.float64),
        "recall10": (ranks_N < 10).astype(np.float64),
        "mrr": 1 / (1 + ranks_N),
    }
    return summed(of.groups_N, values, scored=of.digest)


@dataclass(frozen=True, slots=True)
class _Known:
    """What a pair set trains on."""

    texts: set[str]
    concepts: set[str]

    @classmethod
    def of(cls, pairs: Artifact) -> "_Known":
        texts: set[str] = set()
        concepts: set[str] = set()
        for source in read_pair_set(pairs, split="train").values():
            for sides in (source.anchors, source.positives):
                texts.update(map(text_key, sides))
            for lineages in (source.anchor_lineages, source.positive_lineages):
                concepts.update(lineage[0] for lineage in lineages if lineage)
        return cls(texts, concepts)

    def has_both_sides(self, pairs: PairTexts, row: int) -> bool:
        sides = (
            (pairs.anchors[row], pairs.anchor_lineages[row]),
            (pairs.positives[row], pairs.positive_lineages[row]),
        )
        return all(
            text_key(text) in self.texts or bool(lineage and lineage[0] in self.concepts) for text, lineage in sides
        )


def _group(pairs: PairTexts, row: int) -> int:
    lineage = pairs.anchor_lineages[row]
    return name_id(lineage[-1] if lineage else text_key(pairs.anchors[row]))
