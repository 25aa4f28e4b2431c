"""The training loop in this process: it learns, resumes to the bit, and weighs every masked token alike."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clinical_modernbert.artifacts import Artifact, make_plan, open_store
from clinical_modernbert.encoder import has_bfloat16, load_model
from clinical_modernbert.errors import ArtifactError, ModelError, RecipeError
from clinical_modernbert.recipe import PretrainRecipe, build_recipe, read_recipe
from clinical_modernbert.training import loop
from clinical_modernbert.training.launch import pretrain_in_process
from safetensors.torch import load_file
from transformers import AutoModelForMaskedLM, AutoTokenizer

from tests.helpers.tiny import publish_tiny_corpus, tiny_pretrain_plan


@pytest.fixture
def store(tmp_path: Path):
    store = open_store(str(tmp_path))
    publish_tiny_corpus(store)
    return store


def losses(model: Artifact) -> list[float]:
    history = json.loads(model.file("history.json").read_text())
    return [point["loss"] for point in history if "loss" in point]


def weights(model: Artifact) -> dict[str, torch.Tensor]:
    return load_file(model.file("model/model.safetensors"))


def test_it_learns_and_records_its_schedules(store) -> None:
    model = pretrain_in_process(tiny_pretrain_plan(store, "training.num_steps=40"))
    history = json.loads(model.file("history.json").read_text())
    points = [point for point in history if "loss" in point]
    assert points[-1]["loss"] < 0.8 * points[0]["loss"]
    assert points[0]["mask_rate"] == pytest.approx(0.30) and points[-1]["mask_rate"] == pytest.approx(0.15)
    assert points[0]["salience_odds"] == pytest.approx(4) and points[-1]["salience_odds"] == pytest.approx(1)
    share = [point["masked"] / point["tokens"] for point in points]
    assert np.mean(share[:5]) > 1.5 * np.mean(share[-5:])
    assert model.summary["held_out"]["uniform_loss"] < points[0]["loss"]


def test_runs_of_one_seed_record_the_same_start_and_rows_whatever_they_mask(store) -> None:
    def start(*overrides: str) -> tuple[str, str]:
        summary = pretrain_in_process(tiny_pretrain_plan(store, "training.num_steps=3", *overrides)).summary
        return summary["initial_weights"], summary["row_order"]

    ours = start()
    assert start("masking.strategy=uniform", "optimizer.learning_rate=1e-5") == ours
    other = start("training.seed=1")
    assert other[0] != ours[0] and other[1] != ours[1]


def test_a_killed_run_resumes_to_the_bit(store, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = pretrain_in_process(tiny_pretrain_plan(store, "name=whole"))
    plan = tiny_pretrain_plan(store, "name=killed")
    real = loop.train_step

    def dies_at_step_9(*args, step: int, **kwargs):
        if step == 9:
            raise KeyboardInterrupt
        return real(*args, step=step, **kwargs)

    monkeypatch.setattr(loop, "train_step", dies_at_step_9)
    with pytest.raises(KeyboardInterrupt):
        pretrain_in_process(plan)
    assert plan.existing() is None
    started = []
    monkeypatch.setattr(loop, "train_step", lambda *a, step, **k: (started.append(step), real(*a, step=step, **k))[1])
    resumed = pretrain_in_process(plan)
    assert started[0] in (4, 8)  # a checkpoint, not the beginning: the newest was perhaps still on its way
    assert losses(resumed) == losses(whole)
    same = ("initial_weights", "row_order", "training_flops")
    assert [resumed.summary[key] for key in same] == [whole.summary[key] for key in same]
    expected = weights(whole)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in weights(resumed).items())
    assert store.names(f"checkpoint/{plan.id}") == []


def test_a_damaged_checkpoint_is_passed_over(store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = pretrain_in_process(tiny_pretrain_plan(store, "name=whole"))
    plan = tiny_pretrain_plan(store, "name=damaged")
    real = loop.train_step

    def dies_at_step_9(*args, step: int, **kwargs):
        if step == 9:
            raise KeyboardInterrupt
        return real(*args, step=step, **kwargs)

    monkeypatch.setattr(loop, "train_step", dies_at_step_9)
    with pytest.raises(KeyboardInterrupt):
        pretrain_in_process(plan)
    newest = sorted((tmp_path / "checkpoint" / plan.id).iterdir())[-1] / "state.pt"
    newest.write_bytes(newest.read_bytes()[:-100])
    started = []
    monkeypatch.setattr(loop, "train_step", lambda *a, step, **k: (started.append(step), real(*a, step=step, **k))[1])
    assert losses(pretrain_in_process(plan)) == losses(whole)
    assert started[0] in (0, 4)


def test_micro_batches_change_nothing_but_rounding(store) -> None:
    """A mean over micro-batches would weigh tokens by how many their micro-batch happened to mask."""
    whole = pretrain_in_process(tiny_pretrain_plan(store, "name=one", "scaling.micro_batch_rows=16"))
    parts = pretrain_in_process(tiny_pretrain_plan(store, "name=eight", "scaling.micro_batch_rows=2"))
    assert losses(parts) == pytest.approx(losses(whole), abs=2e-5)


def test_a_trace_of_some_steps_is_in_the_artifact(store) -> None:
    profile = "logging.profile={first_step: 2, num_steps: 2}"
    model = pretrain_in_process(tiny_pretrain_plan(store, "training.num_steps=5", profile))
    events = json.loads(gzip.decompress(model.file("profile/trace.json.gz").read_bytes()))["traceEvents"]
    assert sum(event.get("name") == "aten::embedding" for event in events) == 2 * 2, "steps times micro-batches"
    plain = pretrain_in_process(tiny_pretrain_plan(store, "training.num_steps=5", name="plain"))
    assert losses(model) == losses(plain)
    with pytest.raises(RecipeError, match=r"logging\.profile ends after step 6, the run after 5"):
        tiny_pretrain_plan(store, "training.num_steps=5", "logging.profile={first_step: 3, num_steps: 3}")


def test_activation_checkpointing_changes_no_loss(store, monkeypatch: pytest.MonkeyPatch) -> None:
    few = ("training.num_steps=3", "scaling.micro_batch_rows=16")
    calls: list[bool] = []
    start = loop.start_run

    def counted_start(*args: Any) -> Any:
        run = start(*args)
        for layer in run.model.model.layers:
            # A hook before: the second time torch stops inside of the last module, as soon as it has all that it needs.
            layer.mlp.register_forward_pre_hook(lambda module, *_: calls.append(module.training))
        return run

    monkeypatch.setattr(loop, "start_run", counted_start)
    plain = pretrain_in_process(tiny_pretrain_plan(store, *few, name="plain"))
    assert sum(calls) == 3 * 2, "steps times layers"
    calls.clear()
    less = pretrain_in_process(tiny_pretrain_plan(store, *few, "scaling.activation_checkpointing=true", name="less"))
    assert sum(calls) == 2 * 3 * 2, "each layer again in the backward pass"
    assert losses(less) == losses(plain)
    expected = weights(plain)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in weights(less).items())


def test_the_export_loads_by_the_standard_classes_and_gives_the_same_logits(store) -> None:
    artifact = pretrain_in_process(tiny_pretrain_plan(store))
    folder = artifact.folder("model")
    tokenizer, standard = AutoTokenizer.from_pretrained(folder), AutoModelForMaskedLM.from_pretrained(folder)
    assert standard.config._attn_implementation != "packed_sdpa"
    assert type(standard).__name__ == "ModernBertForMaskedLM"
    inputs = tokenizer("The patient took [MASK] 5 mg daily.", return_tensors="pt")
    assert tokenizer.mask_token_id in inputs["input_ids"]
    ours = load_model(folder)
    ours.set_attn_implementation("eager")
    with torch.no_grad():
        difference = standard(**inputs).logits - ours(**inputs).logits
    assert difference.abs().max() < 1e-5


def test_another_vocabulary_is_refused(store, tmp_path: Path) -> None:
    model = pretrain_in_process(tiny_pretrain_plan(store))
    publish_tiny_corpus(store, num_documents=4, name="other")
    plan = tiny_pretrain_plan(store, f"model.init={model.folder('model')}", "name=onward", corpus="other")
    with pytest.raises(ModelError, match="not an extension of the checkpoint's"):
        pretrain_in_process(plan)


def test_training_goes_on_from_a_checkpoint_folder(store) -> None:
    first = pretrain_in_process(tiny_pretrain_plan(store, "training.num_steps=40"))
    plan = tiny_pretrain_plan(
        store, f"model.init={first.folder('model')}", "name=onward", "optimizer.learning_rate=1e-4"
    )
    assert losses(pretrain_in_process(plan))[0] < 0.8 * losses(first)[0]


PHASES = (
    "training.num_steps=null",
    "training.phases=[{sequence_length: 64, num_steps: 7},"
    "{sequence_length: 64, num_steps: 5, mask_rate: 0.2, salience_odds: 1, global_rope_theta: 500}]",
)


GROWING = "training.batch_warmup={start_rows: 8, tokens: 2500}"  # five steps of 512 tokens, then 1,024 a step


def test_phases_change_mask_and_theta_go_on_in_the_rows_and_resume_to_the_bit(
    store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a batch that grows in the first phase."""
    whole = pretrain_in_process(tiny_pretrain_plan(store, *PHASES, GROWING, "name=whole"))
    history = json.loads(whole.file("history.json").read_text())
    points = [point for point in history if "loss" in point]
    assert [point["phase"] for point in points] == [0] * 7 + [1] * 5
    assert [round(point["tokens"] / point["fill"]) for point in points] == [512] * 5 + [1024] * 7
    assert [point["mask_rate"] for point in points[7:]] == [0.2] * 5
    assert points[6]["mask_rate"] == pytest.approx(0.30 - 0.15 * 6 / 11)
    # Rows go on where the former phase stopped: tokens are those of the same steps in a run of one phase.
    plain = pretrain_in_process(tiny_pretrain_plan(store, GROWING, "name=plain"))
    ones = [point for point in json.loads(plain.file("history.json").read_text()) if "loss" in point]
    assert [point["tokens"] for point in points] == [point["tokens"] for point in ones]
    assert losses(whole)[:7] == losses(plain)[:7] and losses(whole)[7] != losses(plain)[7]
    exported = AutoModelForMaskedLM.from_pretrained(whole.folder("model"))
    assert exported.config.rope_parameters["full_attention"]["rope_theta"] == 500.0

    plan = tiny_pretrain_plan(store, *PHASES, GROWING, "name=killed")
    real = loop.train_step

    def dies_at_step_9(*args, step: int, **kwargs):
        if step == 9:
            raise KeyboardInterrupt
        return real(*args, step=step, **kwargs)

    monkeypatch.setattr(loop, "train_step", dies_at_step_9)
    with pytest.raises(KeyboardInterrupt):
        pretrain_in_process(plan)
    monkeypatch.setattr(loop, "train_step", real)
    resumed = pretrain_in_process(plan)
    expected = weights(whole)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in weights(resumed).items())


def test_a_run_that_starts_again_after_its_last_step_exports_the_rope_base_of_its_last_phase(
    store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No step is trained then, which would have set it."""
    plan = tiny_pretrain_plan(store, *PHASES, "checkpoint.keep_after_export=true")
    real = loop.export_model
    monkeypatch.setattr(loop, "export_model", lambda *args, **kwargs: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        pretrain_in_process(plan)
    monkeypatch.setattr(loop, "export_model", real)
    config = json.loads(pretrain_in_process(plan).file("model/config.json").read_text())
    assert config["rope_parameters"]["full_attention"]["rope_theta"] == config["global_rope_theta"] == 500.0


def test_salient_counts_follow_the_odds(store) -> None:
    model = pretrain_in_process(tiny_pretrain_plan(store, "masking.rate_end=0.3"))
    points = [point for point in json.loads(model.file("history.json").read_text()) if "loss" in point]
    share = [point["salient_masked"] / point["salient"] for point in points]
    rest = [(point["masked"] - point["salient_masked"]) / (point["tokens"] - point["salient"]) for point in points]
    assert 0 < points[0]["salient"] < points[0]["tokens"]
    assert np.mean(share[:3]) > 1.5 * np.mean(rest[:3])


def test_the_arithmetic_is_recorded(store) -> None:
    plan = tiny_pretrain_plan(store, "training.precision=auto", "training.num_steps=2")
    wanted = "bfloat16" if has_bfloat16(torch.device("cpu")) else "float32"
    assert pretrain_in_process(plan).summary["precision"] == wanted


@pytest.mark.parametrize(("device", "able"), [("avx512_bf16", True), ("amx_bf16", True), ("avx512_f", False)])
def test_bfloat16_is_chosen_where_the_cpu_multiplies_it(
    monkeypatch: pytest.MonkeyPatch, device: str, able: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {device: True})
    assert has_bfloat16(torch.device("cpu")) is able


def test_flash_attention_without_a_gpu_stops_before_the_first_step(store) -> None:
    plan = tiny_pretrain_plan(store, "scaling.attention=flash_varlen", "training.precision=bfloat16")
    with pytest.raises(ModelError, match=r"needs a GPU.* scaling\.attention=packed_sdpa"):
        pretrain_in_process(plan)


def test_the_ci_recipe_trains_through_two_row_lengths_as_recorded(store, repository: Path) -> None:
    """Counts and rows are those of the golden file exactly; losses up to what another CPU's rounding changes.

    ``golden/pretrain_ci.json`` holds the training points of this very run; write it anew from ``history.json`` only if a
    change is meant to alter the numerics.
    """
    publish_tiny_corpus(store, row_lengths=(64, 128), name="ci")
    recipe = build_recipe(
        PretrainRecipe, read_recipe("pretrain/ci"), overrides=["logging.every_steps=1"], origin="pretrain/ci"
    )
    model = pretrain_in_process(make_plan(recipe, store))
    points = [point for point in json.loads(model.file("history.json").read_text()) if "loss" in point]
    recorded = json.loads((repository / "tests" / "golden" / "pretrain_ci.json").read_text())
    exact = [{name: value for name, value in point.items() if name != "loss"} for point in recorded]
    assert [{name: point[name] for name in exact[0]} for point in points] == exact
    assert [point["loss"] for point in points] == pytest.approx([point["loss"] for point in recorded], abs=1e-3)
    assert {point["phase"] for point in points} == {0, 1}
    assert model.summary["num_steps"] == 20 and model.summary["loss_last"] < model.summary["loss_first"]
    assert model.summary["held_out"]["uniform_loss"] > 0


def test_a_phase_whose_rows_the_corpus_lacks_stops_before_the_first_step(store) -> None:
    phases = "training.phases=[{sequence_length: 64, num_steps: 2}, {sequence_length: 128, num_steps: 2}]"
    plan = tiny_pretrain_plan(store, "training.num_steps=null", phases)
    with pytest.raises(ArtifactError, match="not of 128"):
        pretrain_in_process(plan)
    assert store.names(f"checkpoint/{plan.id}") == []
