"""Averages of states and exports: the weights, the figures, and what is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from clinical_modernbert.artifacts import Artifact, Plan, Store, make_plan, trained_on
from clinical_modernbert.errors import ModelError, RecipeError
from clinical_modernbert.recipe import MergeRecipe, build_recipe
from clinical_modernbert.training.corpora import merge_plan
from clinical_modernbert.training.launch import pretrain_in_process
from clinical_modernbert.training.merge import merge
from safetensors.torch import load_file
from transformers import AutoModelForMaskedLM

from tests.helpers.tiny import publish_tiny_corpus, tiny_pretrain_plan


@pytest.fixture(scope="module")
def run(store: Store) -> Artifact:
    keep = ("checkpoint.keep_after_export=true", "checkpoint.keep=null", "checkpoint.every_steps=2")
    return pretrain_in_process(tiny_pretrain_plan(store, *keep, "training.num_steps=6", name="run"))


def plan(store: Store, *models: dict[str, Any], **changes: Any) -> Plan[MergeRecipe]:
    values = {"kind": "merge", "name": "average", "corpus": "tiny", "sequence_length": 64, "models": list(models)}
    return make_plan(build_recipe(MergeRecipe, values | changes, origin="test"), store)


def weights(model: Artifact) -> dict[str, torch.Tensor]:
    return load_file(model.file("model/model.safetensors"))


def test_a_state_and_the_export_of_the_same_step_are_the_same_model(store: Store, run: Artifact) -> None:
    half = merge(plan(store, {"source": "run@6"}, {"source": run.manifest.id}))
    expected = weights(run)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in weights(half).items())
    figures = [part["held_out_by_corpus"] for part in half.summary["merged"]]
    assert figures[0] == figures[1] == half.summary["held_out_by_corpus"]
    assert list(figures[0]) == [half.summary["corpus"]]
    assert half.summary["held_out"] == figures[0][half.summary["corpus"]]["overall"]


def test_an_average_has_the_shares_of_its_weights_and_every_figure(store: Store, run: Artifact) -> None:
    merged = merge(plan(store, {"source": "run@2", "weight": 3}, {"source": "run@6"}))
    name = "model.layers.0.mlp.Wi.weight"
    other = merge(plan(store, {"source": "run@2"}, {"source": "run@6"}))
    # 3/4 a + 1/4 b against 1/2 a + 1/2 b and b alone
    last, three, two = weights(run)[name], weights(merged)[name], weights(other)[name]
    assert torch.allclose(three, two + (two - last) / 2, atol=1e-6) and not torch.equal(three, two)
    assert [part["share"] for part in merged.summary["merged"]] == [0.75, 0.25]
    assert [entry.id for entry in merged.manifest.inputs if entry.name != "corpus"] == [
        f"model/{run.manifest.id}@{step}" for step in (2, 6)
    ]
    card = (merged.folder("model") / "README.md").read_text()
    assert (
        f"| the average | 1 | {merged.summary['corpus']} | {merged.summary['held_out']['uniform_loss']:.4f} |" in card
    )
    assert (
        AutoModelForMaskedLM.from_pretrained(merged.folder("model")).num_parameters()
        == merged.summary["num_parameters"]
    )


def test_weights_and_models_decide_the_address(store: Store, run: Artifact) -> None:
    one, same, other = (
        plan(store, {"source": source}, {"source": "run@6", "weight": weight})
        for source, weight in (("run@2", 1), (f"{run.manifest.id}@2", 1), ("run@2", 2))
    )
    assert one.id == same.id != other.id


def test_models_of_several_corpora_are_scored_on_each(store: Store, run: Artifact) -> None:
    notes = publish_tiny_corpus(store, name="notes", seed=1).manifest.id
    phase = f"training.phases=[{{sequence_length: 64, num_steps: 8, corpora: {{{notes}: 1}}}}]"
    overrides = ("training.num_steps=null", phase, "training.continue_from=run@6")
    branch = pretrain_in_process(tiny_pretrain_plan(store, *overrides, name="branch"))
    values = {"kind": "merge", "name": "average", "corpus": "tiny", "sequence_length": 64, "max_rows": 8}
    models = [{"source": "run@6"}, {"source": branch.manifest.id}]
    recipe = build_recipe(MergeRecipe, values | {"models": models}, origin="test")
    merged = merge(merge_plan(recipe, store))
    assert list(merged.summary["held_out_by_corpus"]) == [merged.summary["corpus"], notes]
    assert merged.summary["held_out_by_corpus"][notes]["overall"] != merged.summary["held_out"]
    assert set(merged.summary["held_out_by_corpus"][notes]["by_source"]) == {"left", "right"}
    own = branch.summary["held_out_by_corpus"][notes]["overall"]["uniform_loss"]
    of_branch = merged.summary["merged"][1]["held_out_by_corpus"][notes]["overall"]["uniform_loss"]
    assert of_branch == pytest.approx(own, rel=1e-5)
    card = (merged.folder("model") / "README.md").read_text()
    for part in merged.summary["merged"]:
        loss = part["held_out_by_corpus"][notes]["overall"]["uniform_loss"]
        assert f"| {part['model'].rpartition('/')[2]} | 0.5 | {notes} | {loss:.4f} |" in card
    assert f"corpus/{notes}" in [entry.id for entry in merged.manifest.inputs]
    by_hand, main_only = (
        merge_plan(build_recipe(MergeRecipe, values | {"models": models, "corpora": corpora}, origin="test"), store)
        for corpora in ([notes], [])
    )
    assert by_hand.id == merged.manifest.id != main_only.id
    assert set(trained_on(merged).corpora) == {merged.summary["corpus"], notes}


def test_a_corpus_of_other_words_or_that_was_deleted_is_refused(store: Store, run: Artifact) -> None:
    publish_tiny_corpus(store, name="other", num_documents=30)
    models = ({"source": "run@2"}, {"source": "run@6"})
    with pytest.raises(RecipeError, match=r"corpus: other-.* has another vocabulary than the models"):
        merge(plan(store, *models, corpus="other"))
    gone = run.summary["corpus"]
    manifest = store.read_bytes(f"corpus/{gone}/manifest.json")
    store.delete(f"corpus/{gone}/manifest.json")
    with pytest.raises(RecipeError, match=rf"corpora: .* was trained on {gone}, which .* no longer has"):
        merge_plan(plan(store, *models, corpus="other").recipe, store)
    store.write_bytes(f"corpus/{gone}/manifest.json", manifest)


def test_models_of_another_shape_or_vocabulary_are_refused(store: Store, run: Artifact, tmp_path: Path) -> None:
    folder = shutil.copytree(run.folder("model"), tmp_path / "copy")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"local_attention": 32}))
    with pytest.raises(ModelError, match=r"models\.1\.source: .* differ in local_attention of config\.json"):
        merge(plan(store, {"source": "run@6"}, {"source": str(folder)}))
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "modules.json").write_text("[]")
    with pytest.raises(ModelError, match=r"models\.1\.source: .* was trained for its vectors"):
        merge(plan(store, {"source": "run@6"}, {"source": str(folder)}))
    (folder / "modules.json").unlink()
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(ModelError, match=r"models\.1\.source: .* another vocabulary"):
        merge(plan(store, {"source": "run@6"}, {"source": str(folder)}))


def test_a_state_of_another_rope_base_than_its_run_s_export_is_refused(store: Store) -> None:
    """A state has no config: it would be scored and averaged with the base of the export."""
    phases = "[{sequence_length: 64, num_steps: 2}, {sequence_length: 64, num_steps: 2, global_rope_theta: 20000}]"
    keep = ("checkpoint.keep_after_export=true", "checkpoint.keep=null", "checkpoint.every_steps=1")
    overrides = ("training.num_steps=null", f"training.phases={phases}", *keep)
    pretrain_in_process(tiny_pretrain_plan(store, *overrides, name="phases"))
    merge(plan(store, {"source": "phases@3"}, {"source": "phases@4"}))
    with pytest.raises(
        ModelError, match=r"models\.0\.source: .*@2 was trained with global_rope_theta=160000, .* 20000"
    ):
        merge(plan(store, {"source": "phases@2"}, {"source": "phases@4"}))


def test_one_model_or_one_twice_is_no_average(store: Store) -> None:
    with pytest.raises(RecipeError, match="models"):
        plan(store, {"source": "run@2"})
    with pytest.raises(RecipeError, match="names a source twice"):
        plan(store, {"source": "run@2"}, {"source": "run@2"})
