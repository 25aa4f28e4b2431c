"""The card of an export says where the data came from, what was measured, and under which licences."""

import json
from pathlib import Path

import pytest
import yaml
from clinical_modernbert.artifacts import open_store
from clinical_modernbert.recipe import PretrainRecipe
from clinical_modernbert.recipe.sources import CodeSource, PubMedSource, TableSource
from clinical_modernbert.training.card import stated_licence
from clinical_modernbert.training.launch import pretrain_in_process

from tests.helpers.tiny import TINY_PRETRAIN, publish_tiny_corpus, tiny_pretrain_plan, tiny_texts


def test_every_export_has_a_card_of_its_own_figures(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    corpus = publish_tiny_corpus(store)
    licences = "model_card.source_licences={right: CC BY 4.0}"
    model = pretrain_in_process(tiny_pretrain_plan(store, "model_card.licence=apache-2.0", licences))
    text = (model.folder("model") / "README.md").read_text()
    front = yaml.safe_load(text.split("---")[1])
    assert front["license"] == "apache-2.0" and front["pipeline_tag"] == "fill-mask"
    summary = model.summary
    assert f"{summary['num_parameters']:,} parameters" in text and corpus.manifest.id in text
    assert f"{summary['held_out']['uniform_top5']:.2%}" in text and f"{summary['held_out']['entity_loss']:.4f}" in text
    tokens = [point["tokens"] for point in json.loads(model.file("history.json").read_text()) if "loss" in point]
    assert f"- tokens: {sum(tokens):,} read" in text and summary["training_tokens"] == sum(tokens)
    assert "has not seen longer input" in text and 'pipeline("fill-mask"' in text
    assert "| right | not stated | not stated | CC BY 4.0 |" in text
    assert "| left | not stated | not stated | generated, none |" in text
    assert not any(sentence in text for document in tiny_texts(120) for sentence in document.split(". "))


def test_the_card_names_the_rates_of_phases(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    publish_tiny_corpus(store)
    phases = (
        "training.num_steps=null",
        "training.phases=[{sequence_length: 64, num_steps: 2, schedule: constant, learning_rate: 1e-3},"
        "{sequence_length: 64, num_steps: 2, schedule: linear}]",
    )
    model = pretrain_in_process(tiny_pretrain_plan(store, *phases, "masking.strategy=uniform"))
    card = (model.folder("model") / "README.md").read_text()
    assert "peak learning rate 0.001, 0.003" in card
    assert "masking: uniform, rate 0.3 to 0.15, unless a phase sets others" in card


@pytest.mark.parametrize(
    ("source", "known"),
    [
        (PubMedSource(type="pubmed", name="p", path="x"), "NLM"),
        (CodeSource(type="codes", name="c", table="cpt", path="x"), "American Medical Association"),
        (CodeSource(type="codes", name="c", table="icd9cm"), "public domain"),
        (CodeSource(type="codes", name="c", table="mimic_hcpcs", path="x"), "PhysioNet"),
        (TableSource(type="table", name="t", path="x.csv", text_column="t"), "not stated"),
    ],
)
def test_licences_follow_the_type_and_the_recipe(source, known: str) -> None:  # type: ignore[no-untyped-def]
    recipe = PretrainRecipe.model_validate(TINY_PRETRAIN)
    assert known in stated_licence(source, recipe)
    named = PretrainRecipe.model_validate({**TINY_PRETRAIN, "model_card": {"source_licences": {source.name: "CC0"}}})
    assert stated_licence(source, named) == "CC0"
