"""Losses and gradients that are no numbers or far from their median: the run ends, or goes back and leaves batches out."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from clinical_modernbert.artifacts import Artifact, Plan, Store, open_store
from clinical_modernbert.corpus.shards import PackedRows
from clinical_modernbert.errors import ModelError, RunStopped
from clinical_modernbert.recipe.training_run import StabilitySection
from clinical_modernbert.training import loop
from clinical_modernbert.training.launch import pretrain_in_process
from clinical_modernbert.training.row_order import RowOrder
from clinical_modernbert.training.spikes import skipped_batches, verdict

from tests.helpers.tiny import publish_tiny_corpus, tiny_pretrain_plan


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = open_store(str(tmp_path))
    publish_tiny_corpus(store)
    return store


def broken_batches(monkeypatch: pytest.MonkeyPatch, *, bad_rows: set[str], value: float) -> None:
    """Make training on certain rows give a certain loss."""
    real = loop.train_step

    def step(context: Any, share: Any, **kwargs: Any) -> Any:
        result = real(context, share, **kwargs)
        broken = share.global_rows_R.tobytes().hex() in bad_rows
        return replace(result, loss=value) if broken else result

    monkeypatch.setattr(loop, "train_step", step)


def train_and_list_rows(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], Artifact]:
    """Train; return the rows of every step in the order they were trained, and the model."""
    real, seen = loop.train_step, []

    def noted(context: Any, share: Any, **kwargs: Any) -> Any:
        seen.append(share.global_rows_R.tobytes().hex())
        return real(context, share, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", noted)
        model = pretrain_in_process(plan)
    return seen, model


def rows_of_steps(store: Store, num_steps: int) -> list[str]:
    """Return the rows of every step of a run that nothing disturbs."""
    plan = tiny_pretrain_plan(store)
    recipe = plan.recipe
    rows = PackedRows(plan.artifacts["corpus"], row_length=64, split="train")
    order = RowOrder(num_rows=len(rows), batch_rows=recipe.training.batch_rows, seed=recipe.training.seed)
    return [order.rows(step).tobytes().hex() for step in range(num_steps)]


def test_a_loss_that_is_no_number_ends_the_run(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = rows_of_steps(store, 12)
    broken_batches(monkeypatch, bad_rows={rows[6]}, value=math.nan)
    with pytest.raises(ModelError, match="step 6: the loss is not a number"):
        pretrain_in_process(tiny_pretrain_plan(store))


def test_a_rollback_leaves_out_the_batches_since_the_checkpoint(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = rows_of_steps(store, 20)
    broken_batches(monkeypatch, bad_rows={rows[6]}, value=math.nan)
    seen, model = train_and_list_rows(tiny_pretrain_plan(store, "stability.action=roll_back"), monkeypatch)
    history = json.loads(model.file("history.json").read_text())
    notes = [point for point in history if "rolled_back_to" in point]
    assert [(note["step"], note["rolled_back_to"]) for note in notes] == [(6, 4)]
    # Steps 0 to 6, then step 4 on the batch after the broken one: batches 4 and 5 are left out with it.
    assert seen == [*rows[:7], *rows[7:15]]
    assert [point["step"] for point in history if "loss" in point] == list(range(12))
    assert model.summary["rollbacks"] == 1


def test_a_rollback_does_not_return_to_the_checkpoint_of_a_stop(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would leave out other batches than in the run that was not stopped."""
    rows, real = rows_of_steps(store, 20), loop.train_step
    plan = tiny_pretrain_plan(store, "stability.action=roll_back", "checkpoint.keep=1")

    def stopped_at_step_5(context: Any, share: Any, *, step: int, **kwargs: Any) -> Any:
        result = real(context, share, step=step, **kwargs)
        return replace(result, signals=replace(result.signals, stop=step == 5))

    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", stopped_at_step_5)
        with pytest.raises(RunStopped):
            pretrain_in_process(plan)
    assert len(store.names(f"checkpoint/{plan.id}")) == 2
    broken_batches(monkeypatch, bad_rows={rows[6]}, value=math.nan)
    seen, model = train_and_list_rows(plan, monkeypatch)
    # Step 6 first, then as in an unbroken run: step 4 on the batch after the broken one.
    assert seen == [rows[6], *rows[7:15]]
    assert model.summary["rollbacks"] == 1
    other = tiny_pretrain_plan(store, "stability.action=roll_back", "checkpoint.every_steps=3")
    assert other.id != plan.id, "it would return to other steps"


def test_a_run_that_never_recovers_is_given_up(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = rows_of_steps(store, 30)
    broken_batches(monkeypatch, bad_rows=set(rows[5:]), value=math.inf)
    with pytest.raises(ModelError, match=r"stability\.max_rollbacks=2"):
        pretrain_in_process(tiny_pretrain_plan(store, "stability.action=roll_back", "stability.max_rollbacks=2"))


def test_a_spike_is_measured_against_the_median_of_a_full_window() -> None:
    section = StabilitySection(spike_factor=2.0, window_steps=3)

    def judge(*recent: float, loss: float = 8.1, norm: float = 1.0, by: StabilitySection = section) -> str | None:
        return verdict(loss=loss, gradient_norm=norm, recent=recent, section=by)

    assert judge(4.0, 4.0) is None
    assert "2 times its median 4.0" in str(judge(100.0, 4.0, 1.0, 4.0))
    assert judge(4.0, 4.0, 4.0, loss=7.9) is None
    assert judge(*[1.0] * 9, by=StabilitySection()) is None
    assert judge(norm=math.inf) == "the gradient is not a number"


def test_skips_add_up_from_their_step_on() -> None:
    skips = ((4, 3), (8, 2))
    assert [skipped_batches(step, skips) for step in (3, 4, 7, 8, 20)] == [0, 3, 3, 5, 5]
