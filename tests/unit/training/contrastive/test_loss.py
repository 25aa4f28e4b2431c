"""The contrastive loss against sentence-transformers' and by hand, and what is no negative."""

import numpy as np
import pytest
import torch
from clinical_modernbert.corpus.pairs.read import PairTexts
from clinical_modernbert.errors import RecipeError
from clinical_modernbert.training.contrastive.batches import IDS, PairBatch, PairSource, joined, with_ids
from clinical_modernbert.training.contrastive.loss import (
    HardNegatives,
    contrastive_loss,
    cosines,
    distillation_loss,
    no_negatives,
    same_meaning,
)
from clinical_modernbert.training.contrastive.plan import places


def random_vectors(num: int, width: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    anchors = torch.randn(num, width, generator=generator)
    return anchors, anchors + torch.randn(num, width, generator=generator)


def nothing(num: int) -> torch.Tensor:
    return torch.zeros(num, num, dtype=torch.bool)


def test_it_equals_sentence_transformers_loss_and_gradient() -> None:
    losses = pytest.importorskip("sentence_transformers.sentence_transformer.losses")
    anchors, positives = (side.requires_grad_() for side in random_vectors(12))
    theirs = losses.MultipleNegativesRankingLoss(
        torch.nn.Identity(),
        scale=20.0,
        directions=("query_to_doc", "doc_to_query"),
        partition_mode="per_direction",
    ).compute_loss_from_embeddings([anchors, positives], torch.arange(12))
    ours = contrastive_loss(anchors, positives, excluded_NN=nothing(12), temperature=0.05)

    torch.testing.assert_close(ours, theirs)
    for one, other in zip(
        torch.autograd.grad(ours, (anchors, positives)), torch.autograd.grad(theirs, (anchors, positives)), strict=True
    ):
        torch.testing.assert_close(one, other)


def test_distillation_equals_sentence_transformers_loss_and_gradient() -> None:
    """Theirs has the factor temperature squared and takes one candidate of each text a column."""
    losses = pytest.importorskip("sentence_transformers.sentence_transformer.losses")
    util = pytest.importorskip("sentence_transformers.util")
    anchors, positives = (side.requires_grad_() for side in random_vectors(6))
    teacher = cosines(*random_vectors(6, width=5))
    kind = losses.DistillKLDivLoss(
        torch.nn.Identity(), similarity_fct=util.pairwise_cos_sim, student_temperature=0.5, teacher_temperature=0.2
    )
    columns = [
        [candidate.expand_as(side) for candidate in other]
        for side, other in ((anchors, positives), (positives, anchors))
    ]
    theirs = kind.compute_loss_from_embeddings([anchors, *columns[0]], teacher)
    theirs = (theirs + kind.compute_loss_from_embeddings([positives, *columns[1]], teacher.T)) / 2 / 0.5**2
    ours = distillation_loss(anchors, positives, teacher_NN=teacher, temperature=0.5, teacher_temperature=0.2)

    torch.testing.assert_close(ours, theirs)
    for one, other in zip(
        torch.autograd.grad(ours, (anchors, positives)), torch.autograd.grad(theirs, (anchors, positives)), strict=True
    ):
        torch.testing.assert_close(one, other)
    same = {"teacher_NN": cosines(anchors, positives).detach(), "temperature": 0.3, "teacher_temperature": 0.3}
    assert float(distillation_loss(anchors, positives, **same).detach()) == pytest.approx(0, abs=1e-6)


def test_hard_negatives_equal_sentence_transformers_with_triplets() -> None:
    losses = pytest.importorskip("sentence_transformers.sentence_transformer.losses")
    anchors, positives = (side.requires_grad_() for side in random_vectors(12))
    hard = [torch.randn(12, 16, generator=torch.Generator().manual_seed(seed)).requires_grad_() for seed in (1, 2)]
    theirs = losses.MultipleNegativesRankingLoss(
        torch.nn.Identity(),
        scale=20.0,
        directions=("query_to_doc", "doc_to_query"),
        partition_mode="per_direction",
    ).compute_loss_from_embeddings([anchors, positives, *hard], torch.arange(12))
    negatives = HardNegatives(torch.cat(hard), torch.zeros(12, 24, dtype=torch.bool))
    ours = contrastive_loss(anchors, positives, excluded_NN=nothing(12), temperature=0.05, negatives=negatives)

    torch.testing.assert_close(ours, theirs)
    of = (anchors, positives, *hard)
    for one, other in zip(torch.autograd.grad(ours, of), torch.autograd.grad(theirs, of), strict=True):
        torch.testing.assert_close(one, other)


def test_a_hard_negative_that_means_the_same_or_is_missing_counts_for_nothing() -> None:
    pairs = PairTexts(
        ["kidney failure", "cough"],
        ["renal failure", "tussis"],
        [code("N19"), code("R05.1")],
        [code("N19"), code("R05.1")],
        [["liver failure", "Failure, renal"], ["cough, any"]],
        [[code("K72"), code("K99")], [code("R05")]],
    )
    found = with_ids(pairs, num_negatives=2)
    assert found.negatives == [("liver failure", "Failure, renal"), ("cough, any", "")]
    excluded = no_negatives(
        *(torch.from_numpy(getattr(found, name)) for name in IDS),
        **{
            name: torch.from_numpy(getattr(found, of)).reshape(-1)
            for name, of in (("concepts_M", "negative_concepts_NK"), ("texts_M", "negative_texts_NK"))
        },
    )
    assert excluded.tolist() == [[False, True, False, True], [False, False, True, True]]
    anchors, positives = random_vectors(2)
    negatives = HardNegatives(torch.randn(4, 16), torch.ones(2, 4, dtype=torch.bool))
    torch.testing.assert_close(
        contrastive_loss(anchors, positives, excluded_NN=nothing(2), temperature=0.1, negatives=negatives),
        contrastive_loss(anchors, positives, excluded_NN=nothing(2), temperature=0.1),
    )
    taken = joined([found, with_ids(pairs, num_negatives=2)]).take(np.array([3, 0]))
    assert taken.negatives == [("cough, any", ""), ("liver failure", "Failure, renal")]
    assert taken.negative_texts_NK[0, 1] == 0 != taken.negative_texts_NK[1, 1]


def test_widths_are_scored_by_the_beginning_of_the_vectors() -> None:
    anchors, positives = random_vectors(6)
    whole, half = (
        contrastive_loss(anchors[:, :w], positives[:, :w], excluded_NN=nothing(6), temperature=0.1) for w in (16, 8)
    )
    both = contrastive_loss(anchors, positives, excluded_NN=nothing(6), temperature=0.1, dims=(8,))
    torch.testing.assert_close(both, (whole + half) / 2)


def test_what_is_excluded_is_no_negative_in_either_direction() -> None:
    anchors, positives = random_vectors(3)
    excluded = nothing(3)
    excluded[0, 1] = True
    loss = contrastive_loss(anchors, positives, excluded_NN=excluded, temperature=1.0)

    cosine = torch.nn.functional.cosine_similarity(anchors[:, None], positives[None], dim=2).double().numpy()
    kept = ~excluded.numpy()
    rows = [np.log(np.exp(cosine[i][kept[i]]).sum()) - cosine[i, i] for i in range(3)]
    columns = [np.log(np.exp(cosine[:, j][kept[:, j]]).sum()) - cosine[j, j] for j in range(3)]
    assert float(loss) == pytest.approx((np.mean(rows) + np.mean(columns)) / 2, rel=1e-5)


def code(digits: str) -> list[str]:
    category, _, below = digits.partition(".")
    return [*(f"icd10cm:{category}.{below[:n]}" for n in range(len(below), 0, -1)), f"icd10cm:{category}"]


def batch(*pairs: tuple[str, str, str, str]) -> PairBatch:
    anchors, anchor_codes, positives, positive_codes = zip(*pairs, strict=True)
    return with_ids(PairTexts(anchors, positives, [code(c) for c in anchor_codes], [code(c) for c in positive_codes]))


def test_siblings_ancestors_and_equal_names_are_no_negatives() -> None:
    found = batch(
        ("with kidney disease", "E11.2", "Type 2 diabetes", "E11"),
        (
            "without complications",
            "E11.9",
            "Type 2 diabetes mellitus",
            "E11",
        ),  # a sibling; its positive is the same concept
        ("kidney disease, chronic", "N18.9", "With kidney disease", "E11.2"),  # its positive is the first anchor
        ("broken arm", "S42", "diabetes, type 2", "O24"),  # its positive has the words of the first one
        ("cough", "R05", "tussis", "R05"),
        ("Cough", "R05", "whooping", "A37"),  # the same anchor with another positive
    )
    excluded = same_meaning(
        *(
            torch.from_numpy(getattr(found, name))
            for name in ("anchor_concepts_NL", "positive_concepts_NL", "anchor_texts_N", "positive_texts_N")
        )
    )
    assert excluded[0].tolist() == [True, True, True, True, False, False]
    assert excluded[4].tolist() == [False, False, False, False, True, True]
    assert not excluded[3, 2] and not excluded[1, 2]


@pytest.mark.parametrize("depth", [2, 60])
def test_no_concept_above_is_a_negative_at_any_depth(depth: int) -> None:
    """Of lineages with all above (MeSH) and of ontologies that say what is right above what (OBO); batches join both."""
    chain = [f"mesh:{n}" for n in range(depth)]
    deep = with_ids(PairTexts(["deep"], ["synonym"], [chain], [chain]))
    top = with_ids(PairTexts(["top"], ["summit"], [chain[-1:]], [chain[-1:]]))
    above = {"hp:0": tuple(f"hp:{n}" for n in range(1, depth))}
    onto = PairTexts(
        ["leaf", "root"],
        ["blade", "base"],
        [["hp:0"], [f"hp:{depth - 1}"]],
        [["hp:0"], [f"hp:{depth - 1}"]],
        above=above,
    )
    found = joined([deep, top, with_ids(onto)])
    assert found.anchor_concepts_NL.shape == (4, depth)
    excluded = same_meaning(*(torch.from_numpy(getattr(found, name)) for name in IDS))
    assert excluded.tolist() == [
        [True, True, False, False], [False, True, False, False], [False, False, True, True], [False, False, False, True]
    ]  # fmt: skip
    taken = joined([found.take(np.array([1, 3]))])  # the deep ones are out, and so is their width
    assert taken.anchor_concepts_NL.shape == (2, 1) and taken.anchors == ["top", "root"]


def source(*sizes: int, batch_pairs: int = 8, **weights: float) -> PairSource:
    texts = {
        f"s{n}": PairTexts(
            *([f"{side}{n} {i}" for i in range(size)] for side in "ap"), *([[f"x:{n}.{i}"] for i in range(size)],) * 2
        )
        for n, size in enumerate(sizes)
    }
    return PairSource(texts, weights=weights, batch_pairs=batch_pairs, neighbours=1, seed=0)


def test_each_source_has_its_places_in_every_batch() -> None:
    assert places(8, {"a": 1, "b": 1, "c": 1}) == {"a": 3, "b": 3, "c": 2}
    assert places(8, {"a": 3, "b": 1}) == {"a": 6, "b": 2}
    small = source(6, 1000, s1=3.0)
    seen = [anchor for step in range(3) for anchor in small.batch(step).anchors if anchor.startswith("a0")]
    assert sorted(seen) == [f"a0 {i}" for i in range(6)]  # an epoch of the small source in 3 steps of 2
    assert small.batch(5).anchors == source(6, 1000, s1=3.0).batch(5).anchors
    assert all(not anchor.startswith("a0") for anchor in source(6, 1000, s0=0.0).batch(0).anchors)


def test_an_unknown_source_in_the_weights_is_named() -> None:
    with pytest.raises(RecipeError, match=r"training\.weights names no source of the pair set: s9; sources are s0, s1"):
        source(6, 6, s9=1.0)
    with pytest.raises(RecipeError, match="leaves no source"):
        source(6, s0=0.0)
