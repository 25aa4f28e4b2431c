"""The training loop in this process: it learns, resumes to the bit, and weighs every masked token alike."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from clinical_modernbert.artifacts import Artifact, open_store
from clinical_modernbert.encoder import load_model
from clinical_modernbert.errors import ModelError
from clinical_modernbert.training import loop
from clinical_modernbert.training.launch import pretrain_in_process
from safetensors.torch import load_file
from transformers import AutoModelForMaskedLM, AutoTokenizer

from tests.tiny import publish_tiny_corpus, tiny_pretrain_plan


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


def test_a_killed_run_resumes_to_the_bit(store, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = pretrain_in_process(tiny_pretrain_plan(store, "name=whole"))
    plan = tiny_pretrain_plan(store, "name=killed")
    real = loop._train_step

    def dies_at_step_9(*args, step: int, **kwargs):
        if step == 9:
            raise KeyboardInterrupt
        return real(*args, step=step, **kwargs)

    monkeypatch.setattr(loop, "_train_step", dies_at_step_9)
    with pytest.raises(KeyboardInterrupt):
        pretrain_in_process(plan)
    assert plan.existing() is None
    started = []
    monkeypatch.setattr(loop, "_train_step", lambda *a, step, **k: (started.append(step), real(*a, step=step, **k))[1])
    resumed = pretrain_in_process(plan)
    assert started[0] == 8  # the checkpoint after 8 steps, not the beginning
    assert losses(resumed) == losses(whole)
    expected = weights(whole)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in weights(resumed).items())
    assert store.names(f"checkpoint/{plan.id}") == []


def test_a_damaged_checkpoint_is_passed_over(store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = pretrain_in_process(tiny_pretrain_plan(store, "name=whole"))
    plan = tiny_pretrain_plan(store, "name=damaged")
    real = loop._train_step

    def dies_at_step_9(*args, step: int, **kwargs):
        if step == 9:
            raise KeyboardInterrupt
        return real(*args, step=step, **kwargs)

    monkeypatch.setattr(loop, "_train_step", dies_at_step_9)
    with pytest.raises(KeyboardInterrupt):
        pretrain_in_process(plan)
    newest = sorted((tmp_path / "checkpoint" / plan.id).iterdir())[-1] / "state.pt"
    newest.write_bytes(newest.read_bytes()[:-100])
    started = []
    monkeypatch.setattr(loop, "_train_step", lambda *a, step, **k: (started.append(step), real(*a, step=step, **k))[1])
    assert losses(pretrain_in_process(plan)) == losses(whole)
    assert started[0] == 4


def test_micro_batches_change_nothing_but_rounding(store) -> None:
    """A mean over micro-batches would weigh tokens by how many their micro-batch happened to mask."""
    whole = pretrain_in_process(tiny_pretrain_plan(store, "name=one", "scaling.micro_batch_rows=16"))
    parts = pretrain_in_process(tiny_pretrain_plan(store, "name=eight", "scaling.micro_batch_rows=2"))
    assert losses(parts) == pytest.approx(losses(whole), abs=2e-5)


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
