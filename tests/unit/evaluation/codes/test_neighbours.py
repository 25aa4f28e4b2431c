"""Neighbours are exact, and purity has its known ends."""

import numpy as np
from clinical_modernbert.encoder.neighbours import nearest, purity
from clinical_modernbert.evaluation.codes.neighbours import group_figures, permuted_purity
from clinical_modernbert.evaluation.codes.vectors import text_vectors


def test_neighbours_equal_a_full_sort() -> None:
    vectors = np.random.default_rng(0).normal(size=(1500, 8)).astype(np.float32)
    index, similarity = nearest(vectors, k=5)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    full = unit @ unit.T
    np.fill_diagonal(full, -np.inf)
    expected = np.argsort(-full, axis=1)[:, :5]
    assert (index == expected).mean() > 0.999  # near ties may fall either way in another summation order
    assert np.allclose(similarity, np.take_along_axis(full, expected, axis=1), atol=1e-6)


def test_purity_is_one_for_separate_groups_and_chance_when_permuted() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(4), 50)
    vectors = (np.eye(4)[groups] * 10 + rng.normal(size=(200, 4))).astype(np.float32)
    index, _ = nearest(vectors, k=10)
    assert purity(index, groups) > 0.99
    assert abs(permuted_purity(index, groups, seed=0) - 0.25) < 0.05


def test_shared_words_bring_texts_together() -> None:
    texts = ["acute renal failure", "chronic renal failure", "fracture of femur", "open fracture of femur"]
    index, _ = nearest(text_vectors(texts), k=1)
    assert index[:, 0].tolist() == [1, 0, 3, 2]


def test_figures_of_groups_have_their_ends_and_judge_a_part_by_itself() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(4), 30)
    categories = [f"{number // 5}" for number in range(120)]
    good = (np.eye(4)[groups] * 10 + rng.normal(size=(120, 4))).astype(np.float32)
    noise = rng.normal(size=(120, 4)).astype(np.float32)
    mixed = np.where((groups < 2)[:, None], good, noise)
    whole = group_figures(good, groups, categories, k=5, seed=0)
    assert whole.purity.mean > 0.98 and whole.neighbour_agreement.mean > 0.98
    assert whole.silhouette.mean > 0.5 and abs(whole.permutation - 0.25) < 0.1
    chance = whole.permutations
    assert chance["purity"].mean == whole.permutation and abs(chance["neighbour_agreement"].mean - 0.25) < 0.1
    assert abs(chance["silhouette"].mean) < 0.15 and chance["silhouette"].high < whole.silhouette.low
    for figures in (*whole.estimates().values(), *chance.values()):
        assert figures.low <= figures.mean <= figures.high
    seen, held_out = (
        group_figures(mixed, groups, categories, k=5, seed=0, judged=chosen) for chosen in (groups < 2, groups >= 2)
    )
    assert seen.codes == held_out.codes == 60
    assert seen.purity.mean > held_out.purity.mean + 0.3


def test_silhouette_equals_scikit_learn() -> None:
    from sklearn.metrics import silhouette_score

    rng = np.random.default_rng(1)
    vectors, groups = rng.normal(size=(60, 6)).astype(np.float32), rng.integers(3, size=60)
    figures = group_figures(vectors, groups, [str(n) for n in range(60)], k=3, seed=0)
    assert abs(figures.silhouette.mean - silhouette_score(vectors, groups, metric="cosine")) < 1e-5


def test_near_duplicates_of_a_category_do_not_lift_the_purity_outside_it() -> None:
    """Each category is a point of its own, and its chapter is random: all purity comes from the category."""
    rng = np.random.default_rng(0)
    categories = np.repeat(np.arange(40), 12)
    chapters = rng.integers(4, size=40)[categories]
    vectors = (rng.normal(size=(40, 16))[categories] * 10 + rng.normal(size=(480, 16))).astype(np.float32)
    index, _ = nearest(vectors, k=10, apart_N=categories)
    assert not (categories[index] == categories[:, None]).any()
    figures = group_figures(vectors, chapters, [str(category) for category in categories], k=10, seed=0)
    assert figures.purity.mean > 0.95
    assert figures.purity_outside is not None and figures.purity_outside.mean < 0.5
