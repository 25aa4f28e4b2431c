"""A causal phase: next tokens inside of their segments, its own account and figures, and the way back to masked tokens."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from clinical_modernbert.artifacts import Artifact, Store
from clinical_modernbert.corpus.shards import PackedRows
from clinical_modernbert.encoder import load_model
from clinical_modernbert.errors import RecipeError
from clinical_modernbert.training import loop
from clinical_modernbert.training.batches import pack_causal
from clinical_modernbert.training.launch import pretrain_in_process
from safetensors.torch import load_file

from tests.helpers.tiny import tiny_pretrain_plan

DETOUR = (
    "training.num_steps=null",
    "training.phases=[{sequence_length: 64, num_steps: 8, objective: causal}, {sequence_length: 64, num_steps: 4}]",
    "held_out_loss.every_steps=8",
)


def points(model: Artifact, key: str = "loss") -> list[dict[str, Any]]:
    history: list[dict[str, Any]] = json.loads(model.file("history.json").read_text())
    return [point for point in history if key in point]


@pytest.fixture(scope="module")
def detour(store: Store) -> Artifact:
    return pretrain_in_process(tiny_pretrain_plan(store, *DETOUR, name="detour"))


def test_labels_are_the_successors_in_the_segment(store: Store) -> None:
    rows = PackedRows(tiny_pretrain_plan(store).artifacts["corpus"], row_length=64, split="train").read(np.arange(4))
    batch = pack_causal(rows, device=torch.device("cpu"))
    lengths = rows.lengths_S.tolist()
    assert len(lengths) > 4 and batch.layout.causal and len(batch.labels_N) == sum(lengths) - len(lengths)
    labels = dict(zip(batch.masked_N.tolist(), batch.labels_N.tolist(), strict=True))
    ids = batch.input_ids_T.tolist()
    assert ids == rows.ids_RL[rows.valid_RL].tolist(), "nothing is masked"
    ends = set(np.cumsum(lengths) - 1)
    assert labels == {place: ids[place + 1] for place in range(len(ids)) if place not in ends}


def test_a_causal_step_has_figures_and_an_account_of_its_own(store: Store, detour: Artifact) -> None:
    steps = points(detour)
    causal, masked = steps[:8], steps[8:]
    assert {(p["mask_rate"], p["salience_odds"], p["salient_masked"]) for p in causal} == {(0.0, 1.0, 0)}
    assert all(0.8 * p["tokens"] < p["masked"] < p["tokens"] for p in causal) and causal[-1]["loss"] < causal[0]["loss"]
    assert all(p["masked"] < 0.5 * p["tokens"] and p["mask_rate"] > 0 for p in masked)
    first, second = detour.summary["phases"]
    assert (first["objective"], second["objective"]) == ("causal", "masked")
    assert first["predicted"] == sum(p["masked"] for p in causal)
    card = (detour.folder("model") / "README.md").read_text()
    assert "by causal language modelling and masked language modelling" in card and "| 1 | causal | 8 |" in card


def test_a_causal_evaluation_has_next_tokens_beside_the_frozen_masks(store: Store, detour: Artifact) -> None:
    during, after = points(detour, "held_out")
    assert {"causal_loss", "causal_top1", "uniform_loss", "entity_loss"} <= during["held_out"].keys()
    assert not [name for name in after["held_out"] if name.startswith("causal")]
    (figures,) = during["corpora"].values()
    assert min(f["causal_loss"] for f in figures["by_source"].values()) < during["held_out"]["causal_loss"] < 7


def test_the_held_out_loss_of_next_tokens_is_that_of_transformers(store: Store, tmp_path: Any) -> None:
    """One causal phase, exported: every held-out segment alone, by transformers' eager attention with a causal mask."""
    phase = "training.phases=[{sequence_length: 64, num_steps: 2, objective: causal}]"
    model = pretrain_in_process(tiny_pretrain_plan(store, "training.num_steps=null", phase, name="causal"))
    plain = load_model(model.folder("model")).eval()
    plain.set_attn_implementation("eager")
    rows = PackedRows(tiny_pretrain_plan(store).artifacts["corpus"], row_length=64, split="held_out")
    batch = rows.read(np.linspace(0, len(rows) - 1, min(len(rows), 8)).astype(np.int64))
    losses = []
    for ids in torch.from_numpy(batch.ids_RL[batch.valid_RL]).split(batch.lengths_S.tolist()):
        behind = torch.arange(len(ids))[:, None] - torch.arange(len(ids))[None, :]
        seen = {"full_attention": behind >= 0, "sliding_attention": (behind >= 0) & (behind <= 8)}
        masks = {kind: torch.where(mask, 0.0, float("-inf"))[None, None] for kind, mask in seen.items()}
        with torch.no_grad():
            hidden = plain.model(input_ids=ids[None], attention_mask=masks).last_hidden_state
            logits = plain.decoder(plain.head(hidden))[0]
        losses.append(torch.nn.functional.cross_entropy(logits[:-1], ids[1:], reduction="none"))
    loss = f"{model.summary['held_out']['causal_loss']:.4f}"
    assert f"| none: next tokens | {loss} |" in (model.folder("model") / "README.md").read_text()
    assert model.summary["held_out"]["causal_loss"] == pytest.approx(float(torch.cat(losses).mean()), rel=1e-4)


def test_a_killed_run_resumes_inside_of_the_detour_to_the_bit(
    store: Store, detour: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, real, started = tiny_pretrain_plan(store, *DETOUR, name="killed"), loop.train_step, []

    def dies_at_step_9(*args: Any, step: int, **kwargs: Any) -> Any:
        started.append(step)
        if step == 9 and started.count(9) == 1:
            raise KeyboardInterrupt
        return real(*args, step=step, **kwargs)

    monkeypatch.setattr(loop, "train_step", dies_at_step_9)
    with pytest.raises(KeyboardInterrupt):
        pretrain_in_process(plan)
    resumed = pretrain_in_process(plan)
    assert started[10] in (4, 8)
    expected = load_file(detour.file("model/model.safetensors"))
    found = load_file(resumed.file("model/model.safetensors"))
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())


def test_a_causal_phase_with_a_mask_rate_is_refused(store: Store) -> None:
    phase = "training.phases=[{sequence_length: 64, num_steps: 2, objective: causal, mask_rate: 0.3}]"
    with pytest.raises(RecipeError, match="objective=causal masks no token: leave mask_rate and salience_odds out"):
        tiny_pretrain_plan(store, "training.num_steps=null", phase)
