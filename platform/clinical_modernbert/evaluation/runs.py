"""One run: one encoder on one task with one seed, fine-tuned or frozen, published as an artifact of its own.

A fine-tuned run is a model artifact: ``model/`` in transformers' layout with its head, which the manifest's summary names under
``head``; a frozen one is an evaluation artifact. Both hold ``report.json`` and ``outcomes.npz`` (labels and figures by example,
no text), from which reports, intervals and paired tests are made. A run that was finished is found by its fingerprint.
"""

import json
import logging
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clinical_modernbert.artifacts import Artifact, Plan, Store, make_plan, upload, upload_folder
from clinical_modernbert.evaluation.encoders import LocalEncoder, resolve_encoder
from clinical_modernbert.evaluation.fingerprint_inputs import encoder_input, task_inputs
from clinical_modernbert.evaluation.heads import load_tokenizer
from clinical_modernbert.evaluation.outcome import Outcome
from clinical_modernbert.evaluation.scores import MAIN_METRIC, Scored, measure
from clinical_modernbert.evaluation.tasks.entities import tag_words
from clinical_modernbert.evaluation.tasks.examples import WordExample, drawn, few
from clinical_modernbert.evaluation.tasks.load import load_task
from clinical_modernbert.evaluation.tasks.retrieval import retrieve
from clinical_modernbert.evaluation.tasks.retrieval_sets import RetrievalSet
from clinical_modernbert.evaluation.tasks.text_labels import classify_texts
from clinical_modernbert.recipe import FineTuneRecipe, RunRecipe

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
    report = {
        "task": recipe.task.name,
        "type": recipe.task.type,
        "encoder": encoder.name,
        "origin": encoder.origin,
        "mode": "fine_tuned" if isinstance(recipe, FineTuneRecipe) else "frozen",
        "seed": recipe.seed,
        "num_train": recipe.num_train,
        "metrics": measure(outcome.scored),
        "counts": outcome.counts,
        "facts": outcome.facts,
        "labels": outcome.labels,
        "epochs": [asdict(epoch) for epoch in outcome.epochs],
        "best_epoch": outcome.best_epoch,
        "seconds": round(seconds, 1),
    }
    summary: dict[str, Any] = {key: report[key] for key in ("task", "encoder", "mode", "seed", "metrics", "counts")}
    if outcome.head:
        summary["head"] = outcome.head
    _logger.info("%s: %s %.4f in %.0f s", plan.id, *_main(outcome.scored), seconds)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "report.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
        np.savez_compressed(
            folder / "outcomes.npz",
            **{**outcome.scored.values, "groups": outcome.scored.groups_N, **outcome.extra},  # type: ignore[arg-type]
        )
        files = [upload(plan.store, plan.prefix, path.name, path) for path in sorted(folder.iterdir())]
        if isinstance(recipe, FineTuneRecipe):
            outcome.model.save_pretrained(folder / "model")
            load_tokenizer(encoder.folder).save_pretrained(folder / "model")
            files += upload_folder(plan.store, plan.prefix, folder / "model", below="model")
    return plan.publish(files, summary=summary)


def read_scored(artifact: Artifact) -> Scored:
    """Return the outcomes by example of a finished run."""
    with np.load(artifact.file("outcomes.npz"), allow_pickle=False) as arrays:
        names = {"labels", "probabilities", "counts", "metrics"} & set(arrays.files)
        values = {name: arrays[name].astype(np.float64) for name in names}
        kind = "entities" if "counts" in names else "retrieval" if "metrics" in names else "classification"
        return Scored(kind, arrays["groups"], values)  # type: ignore[arg-type]


def _main(scored: Scored) -> tuple[str, float]:
    metric = MAIN_METRIC[scored.kind]
    return metric, measure(scored)[metric]


def run_outcome(recipe: RunRecipe, encoder: LocalEncoder) -> Outcome:
    """Load the task, train as the recipe says, and score the reported part."""
    data = load_task(recipe.task, recipe.data)
    if isinstance(data, RetrievalSet):
        return retrieve(recipe, encoder, few_pairs(data, recipe.num_train, seed=recipe.seed))
    part: Any = few(data, recipe.num_train, seed=recipe.seed) if recipe.num_train is not None else data
    judge: Any = tag_words if isinstance(part.train[0], WordExample) else classify_texts
    outcome: Outcome = judge(recipe, encoder, part)
    return replace(outcome, facts={**part.facts, **outcome.facts})


def few_pairs(data: RetrievalSet, num_train: int | None, *, seed: int) -> RetrievalSet:
    """Return a few-shot copy of the training pairs, drawn by ``seed``; all where ``num_train`` is None."""
    if num_train is None:
        return data
    train, development = (drawn(pairs, num_train, seed=seed) for pairs in (data.train_pairs, data.development_pairs))
    return replace(data, train_pairs=train, development_pairs=development)
