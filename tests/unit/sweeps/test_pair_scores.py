"""On which pairs vectors are scored, and how: what an arm trains on is left out, and equal meanings are not negatives."""

import numpy as np
import pytest
from clinical_modernbert.artifacts import Artifact, Store, open_store
from clinical_modernbert.corpus.pairs.read import PairTexts, read_pair_set
from clinical_modernbert.errors import RecipeError
from clinical_modernbert.sources.terms import text_key
from clinical_modernbert.sweeps.pair_scores import ScoredPairs, pairs_to_score, rank_scores
from clinical_modernbert.training.contrastive.batches import with_ids

from tests.helpers.pairs import publish_tiny_pairs


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return open_store(str(tmp_path_factory.mktemp("store")))


@pytest.fixture(scope="module")
def pairs(store: Store) -> Artifact:
    return publish_tiny_pairs(store, held_out={"fraction": 0.45})


def anchors(found: dict[str, ScoredPairs]) -> set[str]:
    return {text for source in found.values() for text in source.pairs.anchors}


def test_all_held_out_pairs_of_the_set_are_scored_by_source(pairs: Artifact) -> None:
    found = pairs_to_score(pairs, [pairs], max_pairs=1000)
    held_out = read_pair_set(pairs, split="held_out")
    assert list(found) == ["conditions", "drugs"]
    assert anchors(found) == {text for source in held_out.values() for text in source.anchors}
    few = pairs_to_score(pairs, [pairs], max_pairs=3)
    assert [len(source.pairs) for source in few.values()] == [3, 3]


def test_what_another_set_trains_on_is_not_scored(store: Store, pairs: Artifact) -> None:
    other = publish_tiny_pairs(store, "other", held_out={"fraction": 0.45, "seed": 9})
    trained = read_pair_set(other, split="train")
    seen = {text_key(text) for source in trained.values() for text in source.anchors}
    found = anchors(pairs_to_score(pairs, [pairs, other], max_pairs=1000))
    everything = anchors(pairs_to_score(pairs, [], max_pairs=1000))
    assert found == {text for text in everything if text_key(text) not in seen} and found < everything


def test_nothing_left_to_score_is_refused(store: Store, pairs: Artifact) -> None:
    whole = publish_tiny_pairs(store, "whole", held_out={"fraction": 0.0001})
    with pytest.raises(RecipeError, match=r"holds out no two pairs of a source that whole-\w+ do not train on"):
        pairs_to_score(pairs, [whole], max_pairs=1000)


def scored(*rows: tuple[str, str, str, str]) -> ScoredPairs:
    """Pairs of anchor, positive, and the concept of each."""
    texts = PairTexts(*zip(*rows, strict=True))
    texts = PairTexts(
        texts.anchors, texts.positives, [[c] for c in texts.anchor_lineages], [[c] for c in texts.positive_lineages]
    )
    return ScoredPairs(with_ids(texts), np.arange(len(rows), dtype=np.uint64))


def test_a_rank_counts_nearer_positives_that_mean_something_else() -> None:
    pairs = scored(("a", "A", "1", "1"), ("b", "B", "2", "2"), ("c", "C", "3", "3"))
    eye = np.eye(3, dtype=np.float32)
    assert rank_scores(pairs, eye, eye).mean("recall1") == 1
    # The first anchor's nearest is the second's positive.
    found = rank_scores(pairs, eye[[1, 1, 2]], eye)
    assert (found.mean("recall1"), found.mean("recall10")) == (pytest.approx(2 / 3), 1)
    assert found.mean("mrr") == pytest.approx((1 / 3 + 1 + 1) / 3)  # ties count: two are as near as its own
    # Vectors that are all equal find nothing.
    assert rank_scores(pairs, np.ones((3, 3), np.float32), np.ones((3, 3), np.float32)).mean("recall1") == 0


def test_another_positive_of_the_same_anchor_or_concept_is_no_mistake() -> None:
    pairs = scored(("a", "A", "1", "1"), ("a", "B", "1", "2"), ("c", "C", "1", "3"))
    # The first anchor is nearer to B, which is its positive too; the third's nearest is A, the name of its own concept.
    vectors = np.array([[0.1, 1], [0.1, 1], [0.2, -1]], np.float32), np.array([[1, 0], [0, 1], [-1, 0]], np.float32)
    assert rank_scores(pairs, *vectors).sums["recall1"].tolist() == [1, 1, 1]
