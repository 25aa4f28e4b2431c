"""The report of a sweep: ``report.json``, ``report.md`` in the form of the paper's Table 5, and curves as in its Figure 4."""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from clinical_modernbert.artifacts import Artifact, Store, resolve
from clinical_modernbert.errors import ModelError
from clinical_modernbert.recipe import SweepRecipe
from clinical_modernbert.recipe.contrast import ContrastTrainingSection
from clinical_modernbert.sweeps.board import Board, held_out_curve
from clinical_modernbert.sweeps.comparison import MIN_SEEDS, Pair, compare_seeds, with_verdicts
from clinical_modernbert.sweeps.kinds import PRETRAINING, TrialKind, TrialRecipe
from clinical_modernbert.sweeps.markdown import render_markdown
from clinical_modernbert.sweeps.plots import plot_curves
from clinical_modernbert.sweeps.results import (
    HIDDEN,
    ArmCurve,
    ArmResult,
    Comparison,
    FailedFit,
    Fit,
    MetricComparison,
    Pairing,
    PairingProof,
    SweepReport,
    Trained,
    Trial,
)
from clinical_modernbert.sweeps.results_json import curves_to_json, report_to_json
from clinical_modernbert.sweeps.scaling_fit import Runs, fit_scaling
from clinical_modernbert.sweeps.scores import GroupScores
from clinical_modernbert.sweeps.trials import SweepBase, trial_recipe
from clinical_modernbert.training.state import history_from_json

Scores = dict[str, dict[str, GroupScores]]
"""Model -> frozen mask, or source of pairs -> scores by group."""


def build_report(
    recipe: SweepRecipe, base: SweepBase, trials: Sequence[Trial], scores: Scores, *, store: Store
) -> SweepReport:
    """Return all figures of the sweep."""
    kind = base.kind
    described = _ordered([_with_figures(trial, base, store) for trial in trials], kind)
    if not recipe.arms:
        return SweepReport(kind.base, recipe.base, described)
    fit = fit_trials(described, scores, store) if recipe.comparison.fit else None
    return SweepReport(
        kind.base, recipe.base, described, comparison=compare_arms(recipe, kind, described, scores), fit=fit
    )


def _with_figures(trial: Trial, base: SweepBase, store: Store) -> Trial:
    """Return a finished trial with the figures of its model's manifest, and the compute that its recipe implies."""
    if not trial.finished:
        return trial
    summary = resolve(store, "model", trial.finished).summary
    figures = Trained(
        held_out=summary["held_out"],
        num_parameters=summary["num_parameters"],
        num_steps=summary["num_steps"],
        budget=_budget(trial_recipe(base, trial.point)),
        training_flops=summary.get("training_flops"),
        initial_weights=summary["initial_weights"],
        row_order=summary["row_order"],
        data=_data(summary, base.kind),
    )
    return replace(trial, trained=figures)


def _data(summary: dict[str, Any], kind: TrialKind) -> str:
    """Return the ids of the corpora of all phases, or of the pair set."""
    if kind is PRETRAINING:
        return ", ".join(dict.fromkeys(name for account in summary["phases"] for name in account["tokens"]))
    return str(summary["pairs"])


def _budget(recipe: TrialRecipe) -> int:
    """Return the places for tokens, or the pairs, in all training batches."""
    training = recipe.training
    if isinstance(training, ContrastTrainingSection):
        return training.num_steps * training.batch_pairs
    return training.course.times(training.sequence_length).before(training.total_steps)


def _ordered(trials: list[Trial], kind: TrialKind) -> list[Trial]:
    def place(trial: Trial) -> tuple[bool, int, float]:
        # Figures after different numbers of steps are not comparable: a trial with more steps is listed first.
        # A figure that is not a number is none: it is listed last.
        return bool(trial.error), -(trial.stopped_after or sys.maxsize), kind.cost(trial.value)

    return sorted(trials, key=place)


def compare_arms(recipe: SweepRecipe, kind: TrialKind, trials: Sequence[Trial], scores: Scores) -> Comparison:
    """Return figures by arm, part (mask or source of pairs) and seed, differences from the baseline, and what was paired."""
    scored = {(trial.arm, trial.seed): trial for trial in trials if trial.finished in scores}

    def scores_of(arm: str, part: str) -> dict[int, GroupScores]:
        return {seed: scores[str(scored[arm, seed].model)][part] for seed in recipe.seeds if (arm, seed) in scored}

    parts = _parts(kind, scores)
    arms = {}
    for arm, overrides in recipe.arms.items():
        seeds = [seed for seed in recipe.seeds if (arm, seed) in scored]
        figures = {}
        for part in parts if seeds else ():
            ours = scores_of(arm, part)
            figures[part] = {metric: [ours[seed].mean(metric) for seed in seeds] for metric in kind.metrics}
        arms[arm] = ArmResult(list(overrides), seeds, figures, {})
    for part in parts:
        baseline = scores_of(recipe.compared_with, part)
        pairs = {arm: _pairs(scores_of(arm, part), baseline) for arm in arms if arm != recipe.compared_with}
        for arm, compared in _compared(pairs, kind, resamples=recipe.comparison.resamples).items():
            arms[arm].against_baseline[part] = compared
    pairing = {
        str(seed): _pairing([trial for (_, of_seed), trial in scored.items() if of_seed == seed], scores)
        for seed in recipe.seeds
    }
    return Comparison(recipe.compared_with, MIN_SEEDS, parts, arms, pairing)


def _parts(kind: TrialKind, scores: Scores) -> dict[str, str]:
    """Return what was scored separately, in words."""
    if kind is PRETRAINING:
        return dict(HIDDEN)
    first: dict[str, GroupScores] = next(iter(scores.values()), {})
    return {
        source: f"{found.counts_G.sum():,} pairs of {len(found.counts_G):,} categories; each anchor has to find its positive"
        for source, found in first.items()
    }


def _pairs(ours: dict[int, GroupScores], baseline: dict[int, GroupScores]) -> dict[str, Pair]:
    """Return the scores of the seeds that both have."""
    return {str(seed): (of_seed, baseline[seed]) for seed, of_seed in ours.items() if seed in baseline}


def _compared(
    pairs: dict[str, dict[str, Pair]], kind: TrialKind, *, resamples: int
) -> dict[str, dict[str, MetricComparison]]:
    """Return arm -> metric -> differences with their verdict; an arm without a seed of the baseline has none."""
    by_arm = {arm: compare_seeds(of_arm, resamples=resamples) for arm, of_arm in pairs.items() if of_arm}
    for metric in kind.metrics:
        decided = with_verdicts(
            {arm: compared[metric] for arm, compared in by_arm.items()}, higher_is_better=metric != "loss"
        )
        for arm, compared in decided.items():
            by_arm[arm][metric] = compared
    return by_arm


def _pairing(trials: Sequence[Trial], scores: Scores) -> Pairing:
    """Return whether the trials of one seed had equal initial weights, rows, budgets, data and scored tokens or pairs."""
    figures = [trial.trained for trial in trials if trial.trained]
    proof = PairingProof(
        initial_weights=sorted({trained.initial_weights for trained in figures}),
        row_order=sorted({trained.row_order for trained in figures}),
        budget=sorted({trained.budget for trained in figures}),
        data=sorted({trained.data for trained in figures}),
        scored=_digests([scores[str(trial.model)] for trial in trials]),
    )
    return Pairing(
        initial_weights=len(proof.initial_weights) <= 1,
        row_order=len(proof.row_order) <= 1,
        budget=len(proof.budget) <= 1,
        data=len(proof.data) <= 1,
        scored=all(len(digests) <= 1 for digests in proof.scored.values()),
        shown_by=proof,
    )


def _digests(scores: Sequence[dict[str, GroupScores]]) -> dict[str, list[str]]:
    """Return part -> digests of what models were scored on."""
    parts = dict.fromkeys(part for of_model in scores for part in of_model)
    return {part: sorted({of_model[part].scored for of_model in scores}) for part in parts}


def fit_trials(trials: Sequence[Trial], scores: Scores, store: Store) -> Fit | FailedFit:
    """Return the fit over all scored trials, or why there is none: a failed fit must not lose the report."""
    scored = [
        (trial.model, trial.trained) for trial in trials if trial.model in scores and trial.model and trial.trained
    ]
    embeddings = [_num_embedding(resolve(store, "model", model)) for model, _ in scored]
    runs = Runs(
        parameters_R=np.array(
            [trained.num_parameters - num for (_, trained), num in zip(scored, embeddings, strict=True)],
            dtype=np.float64,
        ),
        tokens_R=np.array([trained.budget for _, trained in scored], dtype=np.float64),
        losses_R=np.array([scores[model]["uniform"].mean("loss") for model, _ in scored]),
    )
    try:
        return fit_scaling(runs)
    except ModelError as error:
        return FailedFit(str(error))


def _num_embedding(model: Artifact) -> int:
    """Return the parameters of the token embedding, which the head shares."""
    config = json.loads(model.file("model/config.json").read_text(encoding="utf-8"))
    return int(config["vocab_size"] * config["hidden_size"])


def write_report(folder: Path, recipe: SweepRecipe, report: SweepReport, *, store: Store, sweep_id: str) -> None:
    """Write report.json, curves.json, report.md and the plot into ``folder``."""
    curves = {}
    board = Board(store, sweep_id)
    for trial in report.trials:
        if trial.trained and trial.model:
            history = json.loads(resolve(store, "model", trial.model).file(report.kind.history_name).read_text())
            points = held_out_curve(history_from_json(history))
        elif trial.stopped_after and trial.model and (reached := board.read(trial.model)):
            points = reached.points
        else:
            continue
        curves[trial.model] = ArmCurve(trial.label, points)
    (folder / "report.json").write_text(json.dumps(report_to_json(report), indent=1), encoding="utf-8")
    (folder / "curves.json").write_text(json.dumps(curves_to_json(curves), indent=1), encoding="utf-8")
    (folder / "report.md").write_text(render_markdown(recipe, report, sweep_id=sweep_id), encoding="utf-8")
    plot_curves(curves, folder / "curves.png", kind=report.kind)
