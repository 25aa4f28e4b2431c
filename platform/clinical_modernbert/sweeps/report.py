"""What a sweep found: ``report.json``, ``report.md`` in the form of the paper's Table 5, and curves in that of its Figure 4."""

import json
import sys
from pathlib import Path
from typing import Any

from clinical_modernbert.artifacts import Artifact, Store, resolve
from clinical_modernbert.errors import ModelError
from clinical_modernbert.masking import MASK_KINDS
from clinical_modernbert.recipe import SweepRecipe
from clinical_modernbert.sweeps.comparison import MIN_SEEDS, Difference, as_json, paired_differences, verdict
from clinical_modernbert.sweeps.halving import Board, held_out_points
from clinical_modernbert.sweeps.markdown import render_markdown
from clinical_modernbert.sweeps.plots import plot_curves
from clinical_modernbert.sweeps.scores import METRICS, DocumentScores
from clinical_modernbert.sweeps.trials import SweepBase, trial_recipe

METRIC = "held_out_loss"
PROOFS = ("initial_weights", "row_order", "token_places", "corpus")

Trials = list[dict[str, Any]]
Scores = dict[str, dict[str, DocumentScores]]


def build_report(
    recipe: SweepRecipe, base: SweepBase, trials: Trials, scores: Scores, *, store: Store
) -> dict[str, Any]:
    """Return all figures of the sweep: trials best first, then stopped ones, then failed ones; in an ablation the arms."""
    for trial in trials:
        if trial["model"] in scores or not (trial["error"] or trial["stopped_after"]):
            trial.update(_facts(resolve(store, "model", trial["model"]), base, trial["point"]))
    report: dict[str, Any] = {"metric": METRIC, "base": recipe.base, "trials": _ordered(trials)}
    report["best"] = report["trials"][0]
    if recipe.arms:
        report |= _compare(recipe, trials, scores)
        if recipe.comparison.fit:
            report["fit"] = _fit(trials, scores, store)
    return report


def _facts(model: Artifact, base: SweepBase, point: dict[str, Any]) -> dict[str, Any]:
    """Return what a finished trial's own manifest says, and the compute that its recipe states."""
    recipe, summary = trial_recipe(base, point), model.summary
    tokens = recipe.training.total_steps * recipe.training.batch_tokens
    return {
        "held_out": summary["held_out"],
        "num_parameters": summary["num_parameters"],
        "num_steps": summary["num_steps"],
        "token_places": tokens,
        "training_flops": summary["training_flops"],
        "initial_weights": summary["initial_weights"],
        "row_order": summary["row_order"],
        "corpus": summary["corpus"],
    }


def _ordered(trials: Trials) -> Trials:
    def place(trial: dict[str, Any]) -> tuple[bool, int, float]:
        # Losses after different steps are not compared: who came further stands first.
        return bool(trial["error"]), -(trial["stopped_after"] or sys.maxsize), trial[METRIC] or 0.0

    return sorted(trials, key=place)


def _compare(recipe: SweepRecipe, trials: Trials, scores: Scores) -> dict[str, Any]:
    """Return figures by arm, mask and seed, differences against the baseline, and whether the arms were paired."""
    found = {(trial["point"]["arm"], trial["point"]["seed"]): trial for trial in trials if trial["model"] in scores}
    arms: dict[str, Any] = {}
    for arm in recipe.arms:
        seeds = [seed for seed in recipe.seeds if (arm, seed) in found]
        arms[arm] = {"overrides": list(recipe.arms[arm]), "seeds": seeds, "masks": {}, "against_baseline": {}}
        for mask in MASK_KINDS if seeds else ():
            by_seed = {seed: scores[found[arm, seed]["model"]][mask] for seed in seeds}
            values = {metric: [by_seed[seed].mean(metric) for seed in seeds] for metric in METRICS}
            arms[arm]["masks"][mask] = values
            pairs = {
                seed: paired_differences(
                    by_seed[seed],
                    scores[found[recipe.compared_with, seed]["model"]][mask],
                    resamples=recipe.comparison.resamples,
                )
                for seed in seeds
                if arm != recipe.compared_with and (recipe.compared_with, seed) in found
            }
            arms[arm]["against_baseline"][mask] = _differences(pairs)
    return {
        "baseline": recipe.compared_with,
        "seeds_needed": MIN_SEEDS,
        "arms": arms,
        "pairing": _pairing(recipe, found, scores),
    }


def _differences(pairs: dict[int, dict[str, Difference]]) -> dict[str, Any]:
    return {
        metric: {
            "verdict": verdict([pair[metric] for pair in pairs.values()], higher_is_better=metric != "loss"),
            "seeds": {str(seed): as_json(pair[metric]) for seed, pair in pairs.items()},
        }
        for metric in METRICS
        if pairs
    }


def _pairing(recipe: SweepRecipe, found: dict[tuple[str, int], dict[str, Any]], scores: Scores) -> dict[str, Any]:
    """Return by seed whether all its arms had the same, and in ``shown_by`` what their trials say: one value where they had.

    These are digests of initial weights and of the rows at each step, the number of tokens and the corpus of the training, and by
    frozen mask the digest of the hidden tokens that the arms were scored on.
    """
    pairing: dict[str, Any] = {}
    for seed in recipe.seeds:
        here = [trial for (_, of_seed), trial in found.items() if of_seed == seed]
        shown = {key: sorted({trial[key] for trial in here}) for key in PROOFS}
        hidden = {mask: sorted({scores[trial["model"]][mask].mask for trial in here}) for mask in MASK_KINDS}
        pairing[str(seed)] = {
            **{key: len(values) <= 1 for key, values in shown.items()},
            "hidden_tokens": all(len(digests) <= 1 for digests in hidden.values()),
            "shown_by": {**shown, "hidden_tokens": hidden},
        }
    return pairing


def _fit(trials: Trials, scores: Scores, store: Store) -> dict[str, Any]:
    """Return the fit, or ``{"failed": reason}``: the trials are trained and compared whether or not a curve goes through them."""
    import numpy as np

    from clinical_modernbert.sweeps.scaling_fit import Runs, fit_scaling

    chosen = [trial for trial in trials if trial["model"] in scores]
    runs = Runs(
        parameters_R=np.array(
            [trial["num_parameters"] - _embedding(resolve(store, "model", trial["model"])) for trial in chosen],
            dtype=np.float64,
        ),
        tokens_R=np.array([trial["token_places"] for trial in chosen], dtype=np.float64),
        losses_R=np.array([scores[trial["model"]]["uniform"].mean("loss") for trial in chosen]),
    )
    try:
        return fit_scaling(runs)
    except ModelError as error:
        return {"failed": str(error)}


def _embedding(model: Artifact) -> int:
    """Return the parameters of the token embedding, which the head shares."""
    config = json.loads(model.file("model/config.json").read_text(encoding="utf-8"))
    return int(config["vocab_size"] * config["hidden_size"])


def write_report(folder: Path, recipe: SweepRecipe, report: dict[str, Any], *, store: Store, sweep_id: str) -> None:
    """Write report.json, curves.json, report.md and the plot into ``folder``."""
    curves = {}
    for trial in report["trials"]:
        if "num_parameters" in trial:
            history = json.loads(resolve(store, "model", trial["model"]).file("history.json").read_text())
            curves[trial["model"]] = {"arm": label(trial), "points": held_out_points(history)}
        elif trial["stopped_after"] and (reached := Board(store, sweep_id).read(trial["model"])):
            curves[trial["model"]] = {"arm": label(trial), "points": reached.points}
    (folder / "report.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
    (folder / "curves.json").write_text(json.dumps(curves, indent=1), encoding="utf-8")
    (folder / "report.md").write_text(render_markdown(recipe, report, sweep_id=sweep_id), encoding="utf-8")
    plot_curves(curves, folder / "curves.png")


def label(trial: dict[str, Any]) -> str:
    """Return how plots and tables call the trial: its arm, or in a search the values at its point."""
    point = trial["point"]
    if "arm" in point:
        return str(point["arm"])
    return ", ".join(f"{path.rpartition('.')[2]}={value}" for path, value in sorted(point.items()))
