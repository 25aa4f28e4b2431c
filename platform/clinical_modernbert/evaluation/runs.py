"""One run: one encoder on one task with one seed, fine-tuned or frozen, published as an artifact.

A fine-tuned run is a model artifact: ``model/`` in transformers' layout with its head, which the manifest's summary names under
``head``. Label-wise attention, for which transformers has no class, is in a file of its own next to the encoder. A frozen run is
an evaluation artifact. Both hold ``report.json`` and ``outcomes.npz`` (labels and figures by example, no text), from which
reports, intervals and paired tests are made. A finished run is found by its fingerprint.
"""

import json
import logging
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from clinical_modernbert.artifacts import Artifact, Plan, Store, make_plan
from clinical_modernbert.encoder import save_model
from clinical_modernbert.evaluation.encoders import LocalEncoder, resolve_encoder
from clinical_modernbert.evaluation.fingerprint_inputs import encoder_input, task_inputs
from clinical_modernbert.evaluation.label_attention import WEIGHTS_FILE
from clinical_modernbert.evaluation.results import Outcome, RunReport
from clinical_modernbert.evaluation.scores import Scored
from clinical_modernbert.evaluation.tasks import KINDS, load_task, main_metric
from clinical_modernbert.recipe import RunRecipe
from clinical_modernbert.tokenizer import load_tokenizer

_logger = logging.getLogger(__name__)


def run_plan(recipe: RunRecipe, store: Store) -> Plan[RunRecipe]:
    """Return the run's plan: what it would make, from which encoder and data."""
    encoder = resolve_encoder(recipe.encoder)
    return make_plan(recipe, store, raw_inputs=(encoder_input(encoder), *task_inputs(recipe.task, recipe.data)))


def run(plan: Plan[RunRecipe]) -> Artifact:
    """Do the run and publish it."""
    recipe = plan.recipe
    torch.set_num_threads(recipe.scaling.num_cpus)
    began = time.perf_counter()
    encoder = resolve_encoder(recipe.encoder)
    outcome = run_outcome(recipe, encoder)
    seconds = time.perf_counter() - began
    report = _report(recipe, encoder, outcome, seconds)
    summary = {key: getattr(report, key) for key in ("task", "encoder", "mode", "seed", "metrics", "counts")}
    if outcome.tuned:
        summary["head"] = outcome.tuned.head
    metric = main_metric(recipe.task.type, report.metrics)
    _logger.info("%s: %s %.4f in %.0f s", plan.id, metric, report.metrics[metric], seconds)
    arrays = {**outcome.scored.values, "groups": outcome.scored.groups_N, **outcome.extra}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "report.json").write_text(json.dumps(asdict(report), indent=1), encoding="utf-8")
        np.savez_compressed(folder / "outcomes.npz", **arrays)  # type: ignore[arg-type]  # numpy's stub takes them for options
        if outcome.tuned:
            save_model(outcome.tuned.model, load_tokenizer(encoder.folder), folder / "model")
            if outcome.tuned.head_weights is not None:
                save_file(outcome.tuned.head_weights.cpu().state_dict(), folder / "model" / WEIGHTS_FILE)
        return plan.publish_folder(folder, summary=summary)


def _report(recipe: RunRecipe, encoder: LocalEncoder, outcome: Outcome, seconds: float) -> RunReport:
    tuned = outcome.tuned
    return RunReport(
        task=recipe.task.name,
        type=recipe.task.type,
        encoder=encoder.name,
        origin=encoder.origin,
        mode=recipe.mode,
        seed=recipe.seed,
        num_train=recipe.num_train,
        metrics=outcome.scored.defined(),
        counts=outcome.counts,
        facts=outcome.facts,
        labels=outcome.labels,
        epochs=tuned.epochs if tuned else [],
        best_epoch=tuned.best_epoch if tuned else None,
        learning_rate=tuned.learning_rate if tuned else None,
        seconds=round(seconds, 1),
    )


def read_scored(artifact: Artifact) -> Scored:
    """Return the outcomes by example of a finished run."""
    kind = KINDS[artifact.manifest.recipe["task"]["type"]]
    with np.load(artifact.file("outcomes.npz"), allow_pickle=False) as arrays:
        values = {name: arrays[name].astype(np.float64) for name in kind.VALUES}
        return Scored(arrays["groups"], values, kind.measure)


def run_outcome(recipe: RunRecipe, encoder: LocalEncoder) -> Outcome:
    """Load the task, train as the recipe says, and score the reported examples."""
    data = load_task(recipe.task, recipe.data)
    if recipe.num_train is not None:
        data = data.few(recipe.num_train, seed=recipe.seed)
    outcome = KINDS[recipe.task.type].run(recipe, encoder, data)
    return replace(outcome, facts={**data.facts, **outcome.facts})
