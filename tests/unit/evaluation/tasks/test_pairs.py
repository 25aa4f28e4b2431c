"""Pairs of texts: read from tables, cut fairly, compared by cosine or in one input; correlations equal scipy's."""

import json
from pathlib import Path

import numpy as np
import pytest
from clinical_modernbert.errors import ModelError, SourceError
from clinical_modernbert.evaluation.runs import read_scored, run
from clinical_modernbert.evaluation.scores import Scored, interval, resample
from clinical_modernbert.evaluation.tasks import KINDS, load_task, similarity
from clinical_modernbert.evaluation.tasks.examples import Splits
from clinical_modernbert.evaluation.tasks.windows import encode_pairs
from clinical_modernbert.recipe import FineTuneRecipe, ProbeRecipe
from clinical_modernbert.recipe.tasks import ClassificationTask, SimilarityTask
from clinical_modernbert.tokenizer import load_tokenizer
from pydantic import ValidationError
from scipy.stats import pearsonr, spearmanr

from tests.helpers.runs import tiny_run_plan
from tests.helpers.tiny import DRUGS

PAIRS = [
    {
        "sentence1": f"patient took {DRUGS[n % 3]} daily",
        "sentence2": f"patient took {DRUGS[n // 3 % 3]} daily",
        "same": ["no", "yes"][n % 3 == n // 3 % 3],
        "score": 4.0 if n % 3 == n // 3 % 3 else (n % 5) / 5,
    }
    for n in range(90)
]


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, PAIRS)))
    return tmp_path


def test_correlations_equal_scipy_with_ties_and_with_repeated_examples() -> None:
    rng = np.random.default_rng(0)
    gold, predicted = rng.integers(0, 5, 60).astype(float), rng.normal(size=60).round(1)
    for weights in (np.ones(60), rng.integers(0, 4, 60).astype(float)):
        drawn = np.repeat(np.arange(60), weights.astype(int))
        found = similarity.measure({"gold": gold, "predicted": predicted}, weights)
        assert found["spearman"] == pytest.approx(spearmanr(gold[drawn], predicted[drawn]).statistic)
        assert found["pearson"] == pytest.approx(pearsonr(gold[drawn], predicted[drawn]).statistic)


def test_the_interval_of_a_correlation_is_fishers() -> None:
    rng = np.random.default_rng(1)
    gold = rng.normal(size=400)
    values = {"gold": gold, "predicted": -0.5 * gold + rng.normal(size=400)}
    found = resample([Scored(np.arange(400), values, similarity.measure)], num_resamples=400)
    mean, low, high = interval(found, "pearson")
    ours = pearsonr(values["gold"], values["predicted"]).confidence_interval()
    assert mean < 0 and (low, high) == pytest.approx(tuple(ours), abs=0.02)


def test_a_frozen_encoder_is_measured_on_all_pairs_without_training(
    pairs: Path, encoder_folders: dict[str, Path]
) -> None:
    task = {"name": "sts", "type": "similarity", "test": "pairs.jsonl"}
    plan = tiny_run_plan(ProbeRecipe, task, encoder_folders["modernbert"], pairs, str(pairs / "store"))
    assert not KINDS["similarity"].trains(plan.recipe.task, "frozen")
    assert not KINDS["similarity"].trains(plan.recipe.task, "fine_tuned")
    artifact = run(plan)
    assert artifact.summary["counts"] == {"train": 0, "development": 0, "test": 90}
    # Equal sentences have the cosine 1, and the highest scores.
    assert artifact.summary["metrics"]["spearman"] > 0.6
    assert read_scored(artifact).values["predicted"].max() == pytest.approx(1)
    found = {
        b.name: b.scored.figures()["spearman"]
        for b in KINDS["similarity"].baselines(load_task(plan.recipe.task, str(pairs)))
    }
    assert set(found) == {"TF-IDF cosine", "character TF-IDF cosine"} and min(found.values()) > 0.6


def test_a_fine_tuned_model_learns_the_scores(pairs: Path, encoder_folders: dict[str, Path]) -> None:
    task = {"name": "sts", "type": "similarity", "train": "pairs.jsonl", "group": "sentence1", "split": {"seed": 1}}
    (pairs / "pairs.jsonl").write_text(
        "\n".join(json.dumps(row | {"sentence1": f"{row['sentence1']} {n}"}) for n, row in enumerate(PAIRS))
    )
    plan = tiny_run_plan(FineTuneRecipe, task, encoder_folders["bert"], pairs, str(pairs / "store"))
    artifact = run(plan)
    config = json.loads((artifact.folder("model") / "config.json").read_text())
    assert config["problem_type"] == "regression" and artifact.summary["counts"]["test"] == 18
    assert np.isfinite(artifact.summary["metrics"]["spearman"])


@pytest.mark.parametrize("recipe", [FineTuneRecipe, ProbeRecipe])
def test_labels_of_pairs(
    recipe: type[FineTuneRecipe] | type[ProbeRecipe], pairs: Path, encoder_folders: dict[str, Path]
) -> None:
    task = {"name": "nli", "type": "classification", "train": "pairs.jsonl", "label": "same"}
    task |= {"text": "sentence1", "second_text": "sentence2"}
    plan = tiny_run_plan(recipe, task, encoder_folders["modernbert"], pairs, str(pairs / "store"))
    figure = run(plan).summary["metrics"]["auroc"]
    # The probe sees the difference of both vectors; a tiny model hardly learns to compare in a few steps.
    assert figure > 0.9 if recipe is ProbeRecipe else 0 <= figure <= 1


def test_a_pair_of_one_group_stays_in_one_part_also_where_the_group_is_the_text(pairs: Path) -> None:
    task = ClassificationTask(
        name="nli", type="classification", train="pairs.jsonl", label="same", text="sentence1", second_text="sentence2",
        group="sentence1",
    )  # fmt: skip
    splits = load_task(task, str(pairs))
    assert isinstance(splits, Splits)
    groups = [{example.group for example in part} for part in splits.parts().values()]
    assert [len(of_part) for of_part in groups] == [1, 1, 1]
    example = splits.train[0]
    assert example.pair and example.text == "\n".join(example.pair) and example.group == example.pair[0]


def test_the_longer_text_of_a_pair_is_cut_first(encoder_folders: dict[str, Path]) -> None:
    tokenizer = load_tokenizer(encoder_folders["bert"])
    short, long = "patient took the", "patient took the medicine daily " * 20
    for pair in ((short, long), (long, short), (long, long), (short, short)):
        (ids,), cut = encode_pairs(tokenizer, [pair], max_tokens=32)
        assert cut == (long in pair) and len(ids) == (32 if long in pair else len(ids))
        ends = [n for n, token in enumerate(ids) if token == tokenizer.sep_token_id]
        assert len(ends) == 2 and ends[1] == len(ids) - 1
        lengths = ends[0] - 1, ends[1] - ends[0] - 1
        of_short = len(tokenizer(short, add_special_tokens=False)["input_ids"])
        assert [n for n, text in zip(lengths, pair, strict=True) if text == short] == [of_short] * pair.count(short)
        assert pair != (long, long) or abs(lengths[0] - lengths[1]) <= 1


def test_what_cannot_be_correlated_is_refused(tmp_path: Path, encoder_folders: dict[str, Path]) -> None:
    (tmp_path / "a.csv").write_text("sentence1,sentence2,score\na,b,high\n")
    (tmp_path / "b.csv").write_text("sentence1,sentence2,score\na,b,1\na,c,1\n")
    (tmp_path / "c.csv").write_text("sentence1,sentence2,score\na,a,1\na,a,2\n")
    for name, problem in (("a", "row 1: score is not a number"), ("b", "all scores are equal")):
        with pytest.raises(SourceError, match=problem):
            load_task(SimilarityTask(name="s", type="similarity", test=f"{name}.csv"), str(tmp_path))
    with pytest.raises(ValidationError, match="set test, train or both"):
        SimilarityTask(name="s", type="similarity")
    task = {"name": "s", "type": "similarity", "test": "c.csv"}
    plan = tiny_run_plan(ProbeRecipe, task, encoder_folders["bert"], tmp_path, str(tmp_path / "store"))
    with pytest.raises(ModelError, match="scores of all pairs are equal"):
        run(plan)
