"""A run learns, is repeatable, is published with its head, and is found again; early stopping keeps the best epoch."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from clinical_modernbert.errors import RecipeError
from clinical_modernbert.evaluation.report.build import task_report
from clinical_modernbert.evaluation.report.calibration import calibration
from clinical_modernbert.evaluation.report.schema import section_json
from clinical_modernbert.evaluation.results import Finished
from clinical_modernbert.evaluation.runs import read_scored, run
from clinical_modernbert.evaluation.tuning import Problem, tune
from clinical_modernbert.recipe import EvaluateRecipe, FineTuneRecipe, ProbeRecipe, build_recipe
from clinical_modernbert.recipe.tasks import TuningSection
from transformers import AutoModelForTokenClassification, AutoTokenizer

from tests.helpers.runs import DRUG_TASK, ROLE_TASK, tiny_run_plan
from tests.helpers.tiny import DRUGS


@pytest.mark.parametrize("architecture", ["modernbert", "bert"])
def test_a_fine_tuned_run_learns_and_its_model_can_be_served(
    architecture: str, encoder_folders: dict[str, Path], task_files: Path, tmp_path: Path
) -> None:
    made = tiny_run_plan(FineTuneRecipe, DRUG_TASK, encoder_folders[architecture], task_files, str(tmp_path))
    artifact = run(made)
    assert artifact.summary["metrics"]["f1"] > 0.9
    assert made.existing() is not None and artifact.manifest.kind == "model"
    assert read_scored(artifact).figures() == artifact.summary["metrics"]
    head = artifact.summary["head"]
    assert head == {
        "kind": "token_classification",
        "labels": ["O", "B-Drug", "I-Drug"],
        "max_tokens": 64,
        "scheme": "IOB2",
    }
    folder = artifact.folder("model")
    model = AutoModelForTokenClassification.from_pretrained(folder, attn_implementation="eager").eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    encoded = tokenizer("The patient took heparin 3 mg daily.", return_tensors="pt")
    with torch.inference_mode():
        tags = model(input_ids=encoded["input_ids"]).logits[0].argmax(1)
    words = tokenizer.convert_ids_to_tokens(encoded["input_ids"][0])
    assert model.config.id2label[int(tags[[w.strip("Ġ").startswith("hep") for w in words].index(True)])] == "B-Drug"
    # No text in what is published beside the model.
    assert not set(DRUGS) & set(artifact.file("report.json").read_text().split())


def test_a_probe_leaves_the_encoder_alone_and_publishes_no_model(
    encoder_folders: dict[str, Path], task_files: Path, tmp_path: Path
) -> None:
    artifact = run(tiny_run_plan(ProbeRecipe, DRUG_TASK, encoder_folders["modernbert"], task_files, str(tmp_path)))
    assert artifact.manifest.kind == "evaluation" and "head" not in artifact.summary
    assert {entry.path for entry in artifact.manifest.files} == {"outcomes.npz", "report.json"}
    report = Finished(ProbeRecipe.model_validate(artifact.manifest.recipe), artifact).report()
    assert report.metrics == artifact.summary["metrics"] and report.epochs == []
    assert artifact.file("report.json").read_text() == json.dumps(asdict(report), indent=1)
    assert artifact.summary["metrics"]["f1"] > 0.5  # even random features know the word


def test_runs_are_reported_over_all_seeds_without_any_text(
    encoder_folders: dict[str, Path], task_files: Path, tmp_path: Path
) -> None:
    finished = []
    for seed, num_train in ((0, None), (1, None), (0, 8)):
        changes = {"seed": seed, "num_train": num_train}
        made = tiny_run_plan(ProbeRecipe, ROLE_TASK, encoder_folders["bert"], task_files, str(tmp_path), **changes)
        finished.append(Finished(made.recipe, run(made)))
    encoders = [{"name": "tiny", "source": str(encoder_folders["bert"])}]
    values = {"name": "e", "encoders": encoders, "tasks": [ROLE_TASK], "data": str(task_files), "num_resamples": 100}
    recipe = build_recipe(EvaluateRecipe, {"kind": "evaluate", **values}, origin="test")
    found = task_report(finished[0].recipe.task, finished, recipe)
    whole, few = found.results
    assert whole.seeds == [0, 1] and few.num_train == 8
    # Calibration is that of all seeds, and of runs trained on all examples.
    briers = [calibration([read_scored(run.artifact)], num_resamples=100).brier for run in finished[:2]]
    assert whole.calibration and whole.calibration.brier == pytest.approx(np.mean(briers)) and few.calibration is None
    ((_, _, analysis),) = found.analyses
    assert sum(bucket.examples for bucket in analysis.by_length) == len(read_scored(finished[0].artifact).groups_N)
    assert {pair.gold for pair in analysis.label_pairs} <= {"METHODS", "RESULTS"}
    # The task is not public: no word of its texts is in the report.
    assert analysis.examples is None
    assert not any(word in json.dumps(section_json(analysis)) for word in (*DRUGS, "patient"))


def test_the_same_seed_gives_the_same_figures_and_another_does_not(
    encoder_folders: dict[str, Path], task_files: Path, tmp_path: Path
) -> None:
    outcomes = [
        read_scored(
            run(
                tiny_run_plan(
                    FineTuneRecipe, ROLE_TASK, encoder_folders["bert"], task_files, str(tmp_path / name), seed=seed
                )
            )
        )
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    a, b, c = (outcome.values["probabilities"] for outcome in outcomes)
    assert np.array_equal(a, b) and not np.array_equal(a, c)


def test_a_run_is_named_by_content_not_by_place(
    encoder_folders: dict[str, Path], task_files: Path, tmp_path: Path
) -> None:
    import shutil

    shutil.copytree(task_files, tmp_path / "moved")
    here = tiny_run_plan(FineTuneRecipe, ROLE_TASK, encoder_folders["bert"], task_files, str(tmp_path))
    moved = tiny_run_plan(FineTuneRecipe, ROLE_TASK, encoder_folders["bert"], tmp_path / "moved", str(tmp_path))
    other = tiny_run_plan(FineTuneRecipe, ROLE_TASK, encoder_folders["modernbert"], task_files, str(tmp_path))
    assert here.fingerprint == moved.fingerprint != other.fingerprint
    with (tmp_path / "moved" / "roles.txt").open("a") as stream:
        stream.write("\n###99\nMETHODS\tOne more.\n")
    assert (
        tiny_run_plan(FineTuneRecipe, ROLE_TASK, encoder_folders["bert"], tmp_path / "moved", str(tmp_path)).id
        != here.id
    )


def test_training_stops_after_patience_and_keeps_the_best_epoch() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    figures = iter([0.2, 0.9, 0.5, 0.4, 0.99])
    seen: list[float] = []

    def development() -> float:
        seen.append(model.weight.item())
        return next(figures)

    problem = Problem([1] * 4, [1] * 4, lambda members: model(torch.ones(1, 1)).sum() * len(members), development)
    section = TuningSection(num_epochs=5, patience=2, batch_size=2, learning_rate=0.1)
    epochs, best = tune(model, problem, section=section, seed=0, max_batch_tokens=100)
    assert len(epochs) == 4 and best == 1
    assert model.weight.item() == pytest.approx(seen[1])


def test_a_step_cut_by_the_token_budget_is_the_same_step() -> None:
    def trained(max_batch_tokens: int) -> torch.Tensor:
        torch.manual_seed(0)
        model = torch.nn.Linear(3, 2)
        inputs, labels = torch.randn(24, 3), torch.randint(2, (24,))

        def loss_sum(members: list[int]) -> torch.Tensor:
            return torch.nn.functional.cross_entropy(model(inputs[members]), labels[members], reduction="sum")

        problem = Problem([10] * 24, [1] * 24, loss_sum, lambda: 0.0)  # type: ignore[arg-type]
        tune(model, problem, section=TuningSection(batch_size=8), seed=0, max_batch_tokens=max_batch_tokens)
        return model.weight.detach()

    assert torch.allclose(trained(1000), trained(20), atol=1e-6)


def test_recipes_that_ask_for_nothing_are_refused() -> None:
    for values, message in (
        ({}, "nothing to do: set corpus"),
        ({"corpus": "c"}, "set model too"),
        ({"codes": {}}, "nothing to evaluate: set model or encoders"),
        ({"codes": {}, "encoders": [{"name": "a"}, {"name": "a"}]}, "encoders must have different names, got a, a"),
        ({"codes": {}, "encoders": [{"name": "a"}], "seeds": [0, 0]}, r"seeds must be distinct, got \[0, 0\]"),
        ({"codes": {}, "encoders": [{"name": "a"}], "few_shot": [0]}, "few_shot.0: .* greater than or equal to 1"),
    ):
        with pytest.raises(RecipeError, match=message):
            build_recipe(EvaluateRecipe, {"kind": "evaluate", "name": "x", **values}, origin="test")


def test_the_paper_and_the_open_recipe_are_valid(repository: Path) -> None:
    from clinical_modernbert.recipe import load_recipe

    recipes = repository / "jobs/recipes"
    paper = load_recipe(EvaluateRecipe, "evaluate/paper", recipes_path=recipes)
    assert len(paper.encoders) == 8 and len(paper.tasks) == 9
    overrides = [f"encoders={json.dumps([{'name': 'biobert'}])}"]
    assert len(load_recipe(EvaluateRecipe, "evaluate/open", overrides=overrides, recipes_path=recipes).tasks) == 8


def test_fine_tuned_retrieval_beats_zero_shot_and_is_published(
    encoder_folders: dict[str, Path], tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    texts = []
    for number in range(40):
        # Both halves name the case's drug and dose; an untrained encoder does not know that this is what matters.
        own = f"{DRUGS[number % len(DRUGS)]} {number} mg"
        filler = [" ".join(rng.choice(["patient", "took", "daily", "in", "ward", "clinic"], size=22)) for _ in (0, 1)]
        texts.append(f"###{number}\nMETHODS\t{own} {filler[0]} {own} {filler[1]}\n")
    (tmp_path / "cases.txt").write_text("\n".join(texts))
    task = {"name": "cases", "type": "retrieval", "format": "halves", "queries": "cases.txt"}
    tuning = {"learning_rate": 2e-3, "num_epochs": 6, "batch_size": 8, "patience": 6}
    figures = {}
    for kind in (ProbeRecipe, FineTuneRecipe):
        artifact = run(
            tiny_run_plan(kind, task, encoder_folders["bert"], tmp_path, str(tmp_path / "store"), tuning=tuning)
        )
        figures[kind] = artifact.summary["metrics"]["map"]
    assert figures[FineTuneRecipe] > figures[ProbeRecipe]
    assert artifact.summary["head"] == {"kind": "embedding", "pooling": "mean", "max_tokens": 64}
    assert "model/model.safetensors" in {entry.path for entry in artifact.manifest.files}
