"""What a run records for its driver has the JSON that pages and drivers read."""

import json
from dataclasses import replace
from pathlib import Path

from clinical_modernbert.artifacts import FileEntry, open_store
from clinical_modernbert.errors import DiskFullError, ModelError, RecipeError
from clinical_modernbert.training.records import Exported, Records, Stopped, Summary
from clinical_modernbert.training.state import (
    HeldOutFigures,
    HeldOutPoint,
    History,
    PhaseAccount,
    RollbackPoint,
    RunState,
    Speed,
    StartPoint,
    StepFigures,
    StepPoint,
    history_to_json,
    state_from_json,
    state_to_json,
)


def step_point(step: int) -> StepPoint:
    figures = StepFigures(
        step=step, phase=0, loss=3.5, learning_rate=1e-3, mask_rate=0.3, salience_odds=4.0, gradient_norm=1.0,
        masked=30, tokens=100, corpora={"c-1": 100}, salient=20, salient_masked=12, flops=1e9, rows="0123", fill=0.9,
    )  # fmt: skip
    return StepPoint(figures, Speed(None, None, None, None, 1024))


FIGURES = HeldOutFigures({"uniform_loss": 4.0}, {"notes": {"uniform_loss": 4.0}})
ACCOUNT = PhaseAccount(0, "masked", steps=2, predicted=60, flops=2e9, tokens={"c-1": 200})
HISTORY: History = (
    StartPoint(0, "2026-11-29T00:00:00+00:00"),
    step_point(0),
    HeldOutPoint(0, {"uniform_loss": 4.0}, 64, {"c-1": 1.0}, {"c-1": FIGURES}),
    step_point(1),
)


def test_a_step_is_one_flat_object() -> None:
    (values,) = history_to_json((step_point(3),))
    assert list(values) == [
        *("step", "phase", "loss", "learning_rate", "mask_rate", "salience_odds", "gradient_norm"),
        *("masked", "tokens", "corpora", "salient", "salient_masked", "flops", "rows", "fill"),
        *("tokens_per_second", "flops_per_second", "mfu", "data_wait", "memory_bytes"),
    ]


def test_a_state_survives_its_json() -> None:
    state = RunState(step=2, history=(*HISTORY, RollbackPoint(5, 2, "x")), recent_losses=(3.5, 3.4), skips=((2, 4),))
    state = replace(state, accounts=(replace(ACCOUNT, phase=None), ACCOUNT))
    assert state_from_json(json.loads(json.dumps(state_to_json(state)))) == state
    assert state.held_out is None and RunState().held_out is None, "of weights two steps old, one step later"
    assert replace(state, step=1).held_out == HISTORY[2]


def test_a_result_is_an_export_or_a_stop(tmp_path: Path) -> None:
    records = Records(open_store(str(tmp_path)), "r-1")
    assert records.result() is None
    records.write_result(Stopped(7))
    assert records.result() == Stopped(7)
    summary = Summary(
        num_parameters=1, num_steps=2, precision="float32", loss_first=3.0, loss_last=2.0, tokens_per_second=None,
        mfu=None, row_order="r", training_flops=1.0, training_tokens=1, phases=(ACCOUNT,), exported_step=2,
        held_out={"uniform_loss": 2.0}, held_out_by_corpus={"c-1": FIGURES}, rollbacks=0, corpus="c-1", initial_weights="w",
    )  # fmt: skip
    exported = Exported((FileEntry(path="model/x", size_bytes=1, sha256="0"),), summary)
    records.write_result(exported)
    assert records.result() == exported
    records.clear_result()
    assert records.result() is None


def test_an_error_belongs_to_one_launch(tmp_path: Path) -> None:
    records = Records(open_store(str(tmp_path)), "r-1")
    records.write_error("a", RecipeError("step 3: no token was masked"))
    records.write_error("c", DiskFullError("the disk is full"))
    assert repr(records.error("a")) == repr(ModelError("step 3: no token was masked")) and records.error("b") is None
    assert repr(records.error("c")) == repr(DiskFullError("the disk is full"))  # its job ends with another status
    records.clear()
    assert records.error("a") is None
