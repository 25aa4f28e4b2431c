"""The output of a finished run: a folder that Hugging Face's classes load, its curve, and the figures of its manifest."""

import hashlib
import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from statistics import median_high

from clinical_modernbert.artifacts import FileEntry, upload_folder
from clinical_modernbert.artifacts.layout import artifact_prefix
from clinical_modernbert.encoder import num_parameters, save_model, set_global_rope_theta
from clinical_modernbert.training.card import model_card
from clinical_modernbert.training.checkpoint import Checkpoints
from clinical_modernbert.training.phases import phase_at
from clinical_modernbert.training.records import Exported, Summary
from clinical_modernbert.training.start import Run
from clinical_modernbert.training.state import RunState, StepPoint, history_to_json


def load_export(run: Run, checkpoints: Checkpoints, state: RunState) -> RunState:
    """Load the weights that the recipe exports into the model, and return their state. Every worker calls it.

    ``state`` is that after the last step; the best checkpoint's differs from it under ``training.export=best``.
    """
    exported = state
    if run.recipe.training.export == "best":
        assert state.held_out is not None, "the last step is always evaluated"
        exported = checkpoints.restore_best(run.engine, last=state.held_out) or state
    # Not left to the steps: a run that starts again after its last checkpoint trains none.
    set_global_rope_theta(run.model, phase_at(run.phases, exported.step - 1).global_rope_theta or run.rope_theta)
    return exported


def export_model(run: Run, state: RunState, exported: RunState, *, traces: tuple[FileEntry, ...]) -> Exported:
    """Upload the model with its card, and ``history.json``; the caller writes the manifest over them and ``traces``."""
    summary = _summary(run, state, exported)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_model(run.model, run.tokenizer, folder / "model", dtype=run.recipe.export.dtype)
        card = model_card(run.job.run_id, run.recipe, run.corpora, summary, initial_model=run.initial_model)
        (folder / "model" / "README.md").write_text(card, encoding="utf-8")
        (folder / "history.json").write_text(json.dumps(history_to_json(state.history)), encoding="utf-8")
        files = upload_folder(run.store, artifact_prefix("model", run.job.run_id), folder)
    return Exported(files=(*files, *traces), summary=summary)


def _summary(run: Run, state: RunState, exported: RunState) -> Summary:
    steps = [point for point in state.history if isinstance(point, StepPoint)]
    rows = "".join(point.figures.rows for point in steps)
    return Summary(
        num_parameters=num_parameters(run.model),
        num_steps=run.num_steps,
        precision=run.precision,
        loss_first=steps[0].figures.loss,
        loss_last=steps[-1].figures.loss,
        tokens_per_second=_median(point.speed.tokens_per_second for point in steps),
        mfu=_median(point.speed.mfu for point in steps),
        row_order=hashlib.sha256(rows.encode()).hexdigest(),
        training_flops=sum(account.flops for account in state.accounts),
        training_tokens=sum(sum(account.tokens.values()) for account in state.accounts),
        phases=state.accounts,
        exported_step=exported.step,
        held_out=exported.held_out.held_out if exported.held_out else {},
        held_out_by_corpus=exported.held_out.corpora if exported.held_out else {},
        rollbacks=len(state.skips),
        corpus=run.recipe.corpus,
        initial_weights=run.initial_weights,
    )


def _median(values: Iterable[float | None]) -> float | None:
    measured = [value for value in values if value]
    return median_high(measured) if measured else None
