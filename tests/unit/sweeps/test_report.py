"""The page of an ablation says what each seed supports, and what it cannot."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from clinical_modernbert.artifacts import Manifest, Store, open_store, upload, write_manifest
from clinical_modernbert.encoder import build_model, num_parameters
from clinical_modernbert.recipe import SweepRecipe, build_recipe
from clinical_modernbert.recipe.pretrain import ModelSection
from clinical_modernbert.sweeps.markdown import findings, render_markdown
from clinical_modernbert.sweeps.plots import plot_curves
from clinical_modernbert.sweeps.report import _compare, _fit
from clinical_modernbert.sweeps.scores import METRICS, DocumentScores

ARMS = {"aware": [], "uniform": ["masking.strategy=uniform"]}


def recipe(seeds: Sequence[int] = (0, 1, 2)) -> SweepRecipe:
    values = {"kind": "sweep", "name": "s", "base": "pretrain/demo", "corpus": "demo", "arms": ARMS, "seeds": [*seeds]}
    return build_recipe(SweepRecipe, values, origin="test")


def report(*, worse_by: dict[int, float], rows: str = "same", hidden: str = "m") -> dict:
    rng = np.random.default_rng(0)
    hard_D = rng.uniform(2, 6, size=200)
    trials, scores = [], {}
    for seed, worse in worse_by.items():
        for arm, own in ARMS.items():
            model = f"{arm}-{seed}"
            loss_D = hard_D + (worse if arm == "uniform" else 0) + rng.normal(0, 0.01, size=200)
            hits_D = np.full(200, 5.0)
            sums = {metric: loss_D * 10 if metric == "loss" else hits_D for metric in METRICS}
            mask = hidden if seed == 0 else "m"
            found = DocumentScores(mask, np.arange(200, dtype=np.uint64), np.full(200, 10), sums)
            scores[model] = {"uniform": found, "entity": found}
            trials.append(
                {
                    "model": model,
                    "point": {"arm": arm, "seed": seed},
                    "recipe": "pretrain/demo",
                    "overrides": ["name=x", "corpus=y", *own, f"training.seed={seed}"],
                    "held_out_loss": 4.0,
                    "error": None,
                    "stopped_at_rung": None,
                    "stopped_after": None,
                    "num_parameters": 1_000_000,
                    "num_steps": 5,
                    "token_places": 10_000,
                    "training_flops": 1e12,
                    "initial_weights": f"w{seed}",
                    "row_order": rows if arm == "aware" else "same",
                    "corpus": "demo-1",
                }
            )
    compared = _compare(recipe(list(worse_by)), trials, scores)
    return {"metric": "held_out_loss", "base": "pretrain/demo", "trials": trials, "best": trials[0], **compared}


def test_a_difference_that_every_seed_shows_is_said() -> None:
    said = " ".join(findings(report(worse_by={0: 0.2, 1: 0.1, 2: 0.1})))
    assert "**uniform** against **aware** is worse on loss; undecided on Top-1, Top-5, Top-10, Top-25" in said
    assert "all arms had the same initial weights" in said and "Undecided in any case" not in said


def test_two_seeds_decide_nothing_and_the_page_says_why() -> None:
    said = " ".join(findings(report(worse_by={0: 0.2, 1: 0.1})))
    assert "worse on" not in said and "undecided on loss, Top-1" in said
    assert "fewer than 3 seeds were compared with the baseline: uniform (2)" in said


def test_seeds_that_disagree_decide_nothing() -> None:
    said = " ".join(findings(report(worse_by={0: 0.2, 1: 0.2, 2: -0.2})))
    assert "worse on" not in said and "better on" not in said


def test_arms_that_saw_other_rows_are_named_as_not_paired() -> None:
    said = " ".join(findings(report(worse_by={0: 0.2, 1: 0.2}, rows="other")))
    assert "Within a seed the arms differ in rows at each step: a difference may come from there." in said
    assert "had the same initial weights, number of training tokens, training corpus, hidden tokens." in said


def test_pairing_is_what_the_trials_say_and_names_the_hidden_tokens() -> None:
    found = report(worse_by={0: 0.2, 1: 0.2}, rows="other", hidden="0123456789abcdef")
    assert found["pairing"]["0"] == {
        "initial_weights": True,
        "row_order": False,
        "token_places": True,
        "corpus": True,
        "hidden_tokens": True,
        "shown_by": {
            "initial_weights": ["w0"],
            "row_order": ["other", "same"],
            "token_places": [10_000],
            "corpus": ["demo-1"],
            "hidden_tokens": {"uniform": ["0123456789abcdef"], "entity": ["0123456789abcdef"]},
        },
    }
    assert "scored on: uniform mask `0123456789ab`, `m`; entity mask" in " ".join(findings(found))


def test_the_page_holds_every_arm_seed_and_trial() -> None:
    found = report(worse_by={0: 0.2, 1: 0.1, 2: 0.1})
    found["trials"][3] |= {"error": "the loss is not a number", "held_out_loss": None}
    page = render_markdown(recipe(), found, sweep_id="s-1")
    assert (
        "| arm | Top-1 | Top-5 | Top-10 | Top-25 | loss |" in page and "| aware | 50.00 (50.00, 50.00, 50.00)" in page
    )
    assert "| uniform | 0 |" in page and "| uniform | 1 |" in page
    assert "failed: the loss is not a number" in page and "Failed and left out: uniform (seed 1)." in page


def of_sizes(store: Store, folder: Path, widths: Sequence[int]) -> tuple[list[dict], dict, list[int]]:
    """Publish models of these widths, three budgets each; return trials, scores, and the parameters beside the embedding."""
    special = {"unk": 0, "cls": 1, "sep": 2, "pad": 3, "mask": 4}
    trials, scores, beside = [], {}, []
    for width in widths:
        section = ModelSection(hidden_size=width, intermediate_size=48, num_layers=2, num_heads=2)
        network = build_model(section, vocabulary_size=320, special_ids=special, seed=0)
        network.save_pretrained(folder / str(width))
        beside.append(num_parameters(network) - network.get_input_embeddings().weight.numel())
        for tokens in (10_000, 20_000, 40_000):
            model = f"m{width}-{tokens}"
            files = [upload(store, f"model/{model}", "model/config.json", folder / str(width) / "config.json")]
            write_manifest(
                store,
                f"model/{model}",
                Manifest(
                    kind="model",
                    id=model,
                    fingerprint=str(tokens),
                    format_version=1,
                    recipe={},
                    inputs=(),
                    summary={},
                    files=files,
                ),
            )
            loss = 2 + 50 / width + 2000 / tokens
            found = DocumentScores(
                "m", np.arange(1, dtype=np.uint64), np.ones(1), dict.fromkeys(METRICS, np.full(1, loss))
            )
            scores[model] = {"uniform": found, "entity": found}
            trials.append({"model": model, "num_parameters": num_parameters(network), "token_places": tokens})
    return trials, scores, beside


def test_the_fit_counts_parameters_without_the_embedding(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    trials, scores, beside = of_sizes(store, tmp_path, (32, 64, 128))
    fit = _fit(trials, scores, store)
    assert fit["largest_run"]["parameters"] == beside[-1] < trials[-1]["num_parameters"]


@pytest.mark.parametrize("widths", [(), (32,)])
def test_a_fit_that_cannot_be_made_does_not_lose_the_report(tmp_path: Path, widths: tuple[int, ...]) -> None:
    store = open_store(str(tmp_path / "store"))
    trials, scores, _ = of_sizes(store, tmp_path, widths)
    fit = _fit(trials, scores, store)
    assert "at least 2 model sizes" in fit["failed"]
    found = report(worse_by={0: 0.2, 1: 0.1, 2: 0.1}) | {"fit": fit}
    assert "Not made: comparison.fit needs more runs" in render_markdown(
        recipe(), json.loads(json.dumps(found)), sweep_id="s-1"
    )


def test_curves_become_one_picture(tmp_path) -> None:
    points = [
        {"step": 9, "uniform_loss": 3.0, "uniform_top1": 0.1},
        {"step": 19, "uniform_loss": 2.0, "uniform_top1": 0.2},
    ]
    curves = {f"m{n}": {"arm": "aware" if n < 2 else "uniform", "points": points} for n in range(4)}
    plot_curves(curves, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
