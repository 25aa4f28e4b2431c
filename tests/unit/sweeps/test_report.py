"""The page of an ablation says what each seed supports, and what it cannot."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clinical_modernbert.artifacts import Manifest, Store, open_store, upload, write_manifest
from clinical_modernbert.encoder import build_model, num_parameters
from clinical_modernbert.errors import ArtifactError
from clinical_modernbert.recipe import SweepRecipe, build_recipe
from clinical_modernbert.recipe.pretrain import ModelSection
from clinical_modernbert.sweeps.kinds import MASKED_METRICS, PRETRAINING
from clinical_modernbert.sweeps.markdown import findings, render_markdown
from clinical_modernbert.sweeps.plots import plot_curves
from clinical_modernbert.sweeps.report import compare_arms, fit_trials
from clinical_modernbert.sweeps.results import (
    ArmCurve,
    Coefficient,
    Extrapolation,
    FailedFit,
    Fit,
    LargestRun,
    SweepReport,
    Trained,
    Trial,
)
from clinical_modernbert.sweeps.results_json import report_from_json, report_to_json
from clinical_modernbert.sweeps.scores import GroupScores
from clinical_modernbert.training.state import HeldOutPoint

from tests.helpers.vector_sweeps import vector_recipe, vector_report

ARMS = {"aware": [], "uniform": ["masking.strategy=uniform"]}
A_FIT = Fit(
    form="L = E",
    coefficients={"E": Coefficient(1.5, 1.0, 2.0)},
    largest_run=LargestRun(1e6, 1e9, 2.0),
    root_mean_square_error=0.1,
    extrapolation=[Extrapolation(2, 1.9, 1.8, 2.0)],
    trusted_growth=None,
)


def recipe(seeds: Sequence[int] = (0, 1, 2)) -> SweepRecipe:
    values = {"kind": "sweep", "name": "s", "base": "pretrain/demo", "corpus": "demo", "arms": ARMS, "seeds": [*seeds]}
    return build_recipe(SweepRecipe, values, origin="test")


def trial(arm: str, seed: int, *, rows: str = "same", overrides: Sequence[str] = ()) -> Trial:
    """A finished trial of an ablation."""
    trained = Trained(
        held_out={"uniform_loss": 4.0},
        num_parameters=1_000_000,
        num_steps=5,
        budget=10_000,
        training_flops=1e12,
        initial_weights=f"w{seed}",
        row_order=rows,
        data="demo-1",
    )
    return Trial(
        point={"arm": arm, "seed": seed},
        recipe="pretrain/demo",
        overrides=["name=x", "corpus=y", *overrides, f"training.seed={seed}"],
        model=f"{arm}-{seed}",
        value=4.0,
        stopped_at_rung=None,
        stopped_after=None,
        error=None,
        trained=trained,
    )


def report(*, worse_by: dict[int, float], rows: str = "same", hidden: str = "m") -> SweepReport:
    rng = np.random.default_rng(0)
    hard_D = rng.uniform(2, 6, size=200)
    trials, scores = [], {}
    for seed, worse in worse_by.items():
        for arm, overrides in ARMS.items():
            loss_D = hard_D + (worse if arm == "uniform" else 0) + rng.normal(0, 0.01, size=200)
            hits_D = np.full(200, 5.0)
            sums = {metric: loss_D * 10 if metric == "loss" else hits_D for metric in MASKED_METRICS}
            mask = hidden if seed == 0 else "m"
            of_model = GroupScores(mask, np.arange(200, dtype=np.uint64), np.full(200, 10), sums)
            scores[f"{arm}-{seed}"] = {"uniform": of_model, "entity": of_model}
            trials.append(trial(arm, seed, rows=rows if arm == "aware" else "same", overrides=overrides))
    comparison = compare_arms(recipe(list(worse_by)), PRETRAINING, trials, scores)
    return SweepReport(trains="pretrain", base="pretrain/demo", trials=trials, comparison=comparison)


def said_of(made: SweepReport) -> str:
    assert made.comparison is not None
    return " ".join(findings(made, made.comparison))


def test_a_difference_that_every_seed_shows_is_said() -> None:
    said = said_of(report(worse_by={0: 0.12, 1: 0.1, 2: 0.1}))
    assert "**uniform** against **aware** is worse on loss; undecided on top-1, top-5, top-10, top-25" in said
    assert "all arms had the same initial weights" in said and "Undecided because" not in said


def test_two_seeds_decide_nothing_and_the_page_says_why() -> None:
    said = said_of(report(worse_by={0: 0.2, 1: 0.1}))
    assert "worse on" not in said and "undecided on loss, top-1" in said
    assert "fewer than 3 seeds were compared with the baseline: uniform (2)" in said


def test_seeds_that_disagree_decide_nothing() -> None:
    said = said_of(report(worse_by={0: 0.2, 1: 0.2, 2: -0.2}))
    assert "worse on" not in said and "better on" not in said


def test_arms_that_saw_other_rows_are_named_as_not_paired() -> None:
    said = said_of(report(worse_by={0: 0.2, 1: 0.2}, rows="other"))
    assert "Within a seed the arms differ in rows at each step, which may explain a difference." in said
    assert "had the same initial weights, number of training tokens, training corpus, hidden tokens." in said


def test_pairing_is_what_the_trials_say_and_names_the_hidden_tokens() -> None:
    found = report(worse_by={0: 0.2, 1: 0.2}, rows="other", hidden="0123456789abcdef")
    assert report_to_json(found)["pairing"]["0"] == {
        "initial_weights": True,
        "row_order": False,
        "budget": True,
        "data": True,
        "scored": True,
        "shown_by": {
            "initial_weights": ["w0"],
            "row_order": ["other", "same"],
            "budget": [10_000],
            "data": ["demo-1"],
            "scored": {"uniform": ["0123456789abcdef"], "entity": ["0123456789abcdef"]},
        },
    }
    assert "scored on: uniform mask `0123456789ab`, `m`; entity mask" in said_of(found)


def test_the_report_s_json_has_the_keys_that_pages_read() -> None:
    values = report_to_json(report(worse_by={0: 0.2, 1: 0.2}))
    assert list(values) == [
        *("trains", "metric", "base", "trials", "best"),
        *("baseline", "seeds_needed", "parts", "arms", "pairing"),
    ]
    assert list(values["trials"][0]) == [
        *("point", "recipe", "overrides", "model", "value", "stopped_at_rung", "stopped_after", "error"),
        *("held_out", "num_parameters", "num_steps", "budget", "training_flops"),
        *("initial_weights", "row_order", "data"),
    ]
    assert list(values["arms"]["uniform"]) == ["overrides", "seeds", "parts", "against_baseline"]
    compared = values["arms"]["uniform"]["against_baseline"]["entity"]["loss"]
    assert compared["verdict"] == "undecided" and list(compared["seeds"]["1"]) == ["value", "low", "high"]


@pytest.mark.parametrize("fit", [None, FailedFit("too few runs"), A_FIT])
def test_a_report_is_read_back_as_it_was_written(fit: Fit | FailedFit | None) -> None:
    written = report(worse_by={0: 0.2, 1: 0.2})
    failed = Trial({"arm": "uniform", "seed": 2}, "pretrain/demo", [], None, None, None, None, error="no loss")
    written = replace(written, trials=[*written.trials, failed], fit=fit)
    text = json.dumps(report_to_json(written))
    read = report_from_json(json.loads(text), called="s-1")
    assert read == written and json.dumps(report_to_json(read)) == text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"base": None}, "'base' is missing"),
        ({"trains": "serve"}, "trains is 'serve'"),
        ({"trials": [{"model": 7}]}, "point: Field required"),
    ],
)
def test_a_damaged_report_names_its_field(change: dict[str, Any], said: str) -> None:
    values = report_to_json(report(worse_by={0: 0.2})) | change
    with pytest.raises(ArtifactError, match=f"s-1 is not the report of a sweep: {said}"):
        report_from_json({name: value for name, value in values.items() if value is not None}, called="s-1")


def test_results_and_their_json_load_neither_torch_nor_ray() -> None:
    code = (
        "import sys, clinical_modernbert.sweeps.results_json\n"
        "print({'torch', 'ray', 'transformers', 'scipy', 'matplotlib'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


def test_the_page_holds_every_arm_seed_and_trial() -> None:
    found = report(worse_by={0: 0.2, 1: 0.1, 2: 0.1})
    failed = replace(found.trials[3], error="the loss is not a number", value=None, trained=None)
    found = replace(found, trials=[*found.trials[:3], failed, *found.trials[4:]])
    page = render_markdown(recipe(), found, sweep_id="s-1")
    assert (
        "| arm | top-1 | top-5 | top-10 | top-25 | loss |" in page and "| aware | 50.00 (50.00, 50.00, 50.00)" in page
    )
    assert "| uniform | 0 |" in page and "| uniform | 1 |" in page
    assert "failed: the loss is not a number" in page and "Failed and left out: uniform (seed 1)." in page


def test_the_page_of_vectors_has_a_table_for_each_source() -> None:
    found = vector_report()
    page = render_markdown(vector_recipe(), found, sweep_id="v-1")
    assert "Base recipe `contrast/demo`, pair set `codes-1`." in page
    assert "crosswalk pairs: **cold** against **warm** is better on recall@1, recall@10, MRR." in page
    assert (
        "## Held-out figures, parents pairs (800 pairs of 80 categories; each anchor has to find its positive)" in page
    )
    assert "all arms had the same initial weights, pairs at each step, number of training pairs, pair set" in page
    assert "| held-out recall@1 | parameters | steps | pairs | FLOPs |" in page and "| 76,800 | – |" in page
    assert "Digests of the held-out pairs that the trials were scored on: crosswalk pairs `digest`" in page
    text = json.dumps(report_to_json(found))
    assert report_from_json(json.loads(text), called="v-1") == found


def of_sizes(store: Store, folder: Path, widths: Sequence[int]) -> tuple[list[Trial], dict, list[int]]:
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
            found = GroupScores(
                "m", np.arange(1, dtype=np.uint64), np.ones(1), dict.fromkeys(MASKED_METRICS, np.full(1, loss))
            )
            scores[model] = {"uniform": found, "entity": found}
            figures = trial("any", 0)
            assert figures.trained is not None
            trained = replace(figures.trained, num_parameters=num_parameters(network), budget=tokens)
            trials.append(replace(figures, model=model, trained=trained))
    return trials, scores, beside


def test_the_fit_counts_parameters_without_the_embedding(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    trials, scores, beside = of_sizes(store, tmp_path, (32, 64, 128))
    fit = fit_trials(trials, scores, store)
    assert isinstance(fit, Fit) and trials[-1].trained is not None
    assert fit.largest_run.parameters == beside[-1] < trials[-1].trained.num_parameters


@pytest.mark.parametrize("widths", [(), (32,)])
def test_a_fit_that_cannot_be_made_does_not_lose_the_report(tmp_path: Path, widths: tuple[int, ...]) -> None:
    store = open_store(str(tmp_path / "store"))
    trials, scores, _ = of_sizes(store, tmp_path, widths)
    fit = fit_trials(trials, scores, store)
    assert isinstance(fit, FailedFit) and "at least 2 model sizes" in fit.failed
    found = replace(report(worse_by={0: 0.2, 1: 0.1, 2: 0.1}), fit=fit)
    assert "Not made: comparison.fit needs more runs" in render_markdown(recipe(), found, sweep_id="s-1")
    assert json.loads(json.dumps(report_to_json(found)))["fit"] == {"failed": fit.failed}


def test_curves_become_one_picture(tmp_path: Path) -> None:
    points = (
        HeldOutPoint(9, {"uniform_loss": 3.0, "uniform_top1": 0.1}),
        HeldOutPoint(19, {"uniform_loss": 2.0, "uniform_top1": 0.2}),
    )
    curves = {f"m{n}": ArmCurve("aware" if n < 2 else "uniform", points) for n in range(4)}
    plot_curves(curves, tmp_path / "curves.png", kind=PRETRAINING)
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
