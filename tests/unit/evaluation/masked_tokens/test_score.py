"""Scores are told apart by source, under the sources' own names, beside a baseline that is right."""

from pathlib import Path

import numpy as np
import pytest
from clinical_modernbert.artifacts import make_plan, open_store
from clinical_modernbert.corpus.shards import PackedRows
from clinical_modernbert.errors import ModelError
from clinical_modernbert.evaluation.encoders import resolve_encoder
from clinical_modernbert.evaluation.masked_tokens.score import accuracies, evaluate, score_encoders, unigram_ranks
from clinical_modernbert.masking import evaluation_mask
from clinical_modernbert.recipe import EvaluateRecipe, build_recipe
from clinical_modernbert.recipe.tasks import EncoderSection
from clinical_modernbert.training.launch import pretrain_in_process

from tests.helpers.tiny import publish_tiny_corpus, tiny_pretrain_plan


def evaluation_plan(store, **changes: object):
    values = {"kind": "evaluate", "name": "e", "model": "tiny", "corpus": "tiny", "sequence_length": 64, **changes}
    return make_plan(build_recipe(EvaluateRecipe, values, origin="test"), store)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory):
    store = open_store(str(tmp_path_factory.mktemp("store")))
    publish_tiny_corpus(store)
    pretrain_in_process(tiny_pretrain_plan(store))
    return store


def test_the_baseline_of_each_source_is_counted_by_hand(store) -> None:
    plan = evaluation_plan(store)
    report = evaluate(plan).summary
    corpus = plan.artifacts["corpus"]
    unigram = np.load(corpus.file("unigram.npy"))
    rows = PackedRows(corpus, row_length=64, split="held_out")
    numbers = np.arange(len(rows))
    batch = rows.read(numbers)
    special = [0, 1, 2, 3, 4]
    hidden = evaluation_mask(
        "uniform",
        salient_RL=batch.salient_RL,
        maskable_RL=batch.valid_RL & ~np.isin(batch.ids_RL, special),
        rows_R=numbers,
    )
    source_RL = np.zeros(batch.ids_RL.shape, dtype=int)
    source_RL[batch.valid_RL] = np.repeat(batch.sources_S, batch.lengths_S)
    # The recipe names "right" first: figures follow its order, not that of the names.
    for number, name in enumerate(["right", "left"]):
        here = hidden & (source_RL == number)
        expected = (batch.ids_RL[here] == unigram[number].argmax()).mean()
        figures = report["masks"]["uniform"]["sources"][name]
        assert figures["tokens"] == here.sum()
        assert figures["unigram"]["1"] == pytest.approx(expected)


def test_accuracy_grows_with_k_and_both_masks_are_scored(store) -> None:
    report = evaluate(evaluation_plan(store, name="grows")).summary
    for mask in ("uniform", "entity"):
        ranks = [report["masks"][mask]["model"][str(k)] for k in (1, 5, 10, 25)]
        assert ranks == sorted(ranks) and report["masks"][mask]["tokens"] > 0


def test_a_model_of_another_corpus_is_refused(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    publish_tiny_corpus(store)
    pretrain_in_process(tiny_pretrain_plan(store, "training.num_steps=1"))
    publish_tiny_corpus(store, num_documents=10, name="other")
    with pytest.raises(ModelError, match="another tokenizer"):
        evaluate(evaluation_plan(store, corpus="other"))


def test_encoders_of_the_corpus_tokenizer_are_asked_the_same_and_others_are_named(
    store, encoder_folders: dict[str, Path]
) -> None:
    plan = evaluation_plan(store, name="others")
    own = evaluate(plan).summary["masks"]["entity"]
    model = plan.artifacts["model"]
    sections = [
        EncoderSection(name="same", source=str(model.folder("model"))),
        EncoderSection(name="other", source=str(encoder_folders["modernbert"])),
        EncoderSection(name="bert", source=str(encoder_folders["bert"])),
    ]
    assert isinstance(plan.recipe, EvaluateRecipe)
    found, refused = score_encoders([resolve_encoder(s) for s in sections], plan.artifacts["corpus"], plan.recipe)
    assert set(found) == {"same"} and found["same"]["entity"].shares["model"] == own["model"]
    assert list(found["same"]["entity"].intervals["model"].values()) == [
        tuple(ends) for ends in own["intervals"]["model"].values()
    ]
    assert set(refused) == {"other", "bert"} and all("another tokenizer" in why for why in refused.values())


def test_intervals_draw_documents_and_not_tokens(store) -> None:
    report = evaluate(evaluation_plan(store, name="intervals")).summary["masks"]["uniform"]
    low, high = report["intervals"]["model"]["1"]
    assert low < report["model"]["1"] < high
    assert report["documents"] < report["tokens"]
    # 40 documents of which each is all right or all wrong: their spread is that of 40 things, whatever the tokens.
    ranks = np.repeat(np.arange(40) % 2, 50)
    documents = np.repeat(np.arange(40, dtype=np.uint64), 50)
    figures = accuracies({"model": ranks}, documents, top_k=(1,), num_resamples=2000)
    low, high = figures.intervals["model"]["1"]
    expected = 1.96 * 0.5 / 40**0.5
    assert figures.shares["model"]["1"] == 0.5 and (high - low) / 2 == pytest.approx(expected, rel=0.1)


def test_unigram_ranks_follow_each_sources_own_counts() -> None:
    unigram = np.array([[5, 9, 1], [0, 2, 7]])
    ranks = unigram_ranks(np.array([1, 0, 2, 2, 0]), np.array([0, 0, 0, 1, 1]), unigram=unigram)
    assert ranks.tolist() == [0, 1, 2, 0, 2]
