"""Texts with any number of labels: every file format, the published splits of ICD coding, metrics equal to scikit-learn's."""

import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from clinical_modernbert.errors import SourceError
from clinical_modernbert.evaluation.label_attention import WEIGHTS_FILE
from clinical_modernbert.evaluation.results import Finished
from clinical_modernbert.evaluation.runs import read_scored, run
from clinical_modernbert.evaluation.tasks import KINDS, load_task
from clinical_modernbert.evaluation.tasks.examples import LabelSetExample, Splits
from clinical_modernbert.evaluation.tasks.label_set_metrics import (
    METRICS,
    best_threshold,
    metrics_by_example,
    predictions,
)
from clinical_modernbert.recipe import FineTuneRecipe, ProbeRecipe
from clinical_modernbert.recipe.tasks import MultiLabelTask
from clinical_modernbert.sources.evaluation_sets import evaluation_texts
from safetensors.numpy import load_file
from sklearn.metrics import f1_score, roc_auc_score

from tests.helpers.runs import tiny_run_plan
from tests.helpers.tiny import DRUGS

TABLE = {"name": "codes", "type": "multi_label", "train": "codes.csv", "group": "patient"}


def outcomes(seed: int = 0, num: int = 200, labels: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Return gold labels and scores with ties; some labels are rare, one is never gold."""
    rng = np.random.default_rng(seed)
    gold = rng.random((num, labels)) < np.linspace(0, 0.5, labels)
    scores = np.clip(0.3 * gold + rng.random((num, labels)) * 0.7, 0, 1).round(2)
    return gold, scores.astype(np.float32)


def test_metrics_equal_scikit_learn() -> None:
    gold, scores = outcomes()
    threshold = 0.5
    found = dict(zip(METRICS, metrics_by_example(gold, scores, threshold=threshold).mean(axis=0), strict=True))
    predicted = predictions(scores, threshold)
    assert np.array_equal(predicted, scores.astype(np.float64) >= threshold - 1e-7)
    seen = gold.any(0)
    assert found["f1_micro"] == pytest.approx(f1_score(gold, predicted, average="micro"))
    assert found["f1_macro"] == pytest.approx(f1_score(gold[:, seen], predicted[:, seen], average="macro"))
    assert found["auroc_micro"] == pytest.approx(roc_auc_score(gold, scores, average="micro"))
    assert found["auroc_macro"] == pytest.approx(roc_auc_score(gold[:, seen], scores[:, seen], average="macro"))
    distinct = scores + np.random.default_rng(1).random(scores.shape).astype(np.float32) * 1e-4
    of_distinct = dict(zip(METRICS, metrics_by_example(gold, distinct, threshold=0.5).mean(axis=0), strict=True))
    for k in (5, 8, 15):
        best = np.argsort(-distinct, axis=1)[:, :k]
        assert of_distinct[f"precision@{k}"] == pytest.approx(np.take_along_axis(gold, best, 1).mean())


def test_the_values_of_examples_give_the_spread_of_resampled_metrics() -> None:
    gold, scores = outcomes(num=300)
    values = metrics_by_example(gold, scores, threshold=0.5)
    rng = np.random.default_rng(0)
    drawn = [rng.integers(len(gold), size=len(gold)) for _ in range(200)]
    again = np.array([metrics_by_example(gold[n], scores[n], threshold=0.5).mean(0) for n in drawn])
    linear = np.array([values[n].mean(0) for n in drawn])
    for number, name in enumerate(METRICS):
        assert linear[:, number].std() == pytest.approx(again[:, number].std(), rel=0.1), name
        assert np.corrcoef(linear[:, number], again[:, number])[0, 1] > 0.97, name


def test_a_metric_that_is_not_defined_is_not_a_number() -> None:
    gold, scores = np.zeros((4, 3), dtype=bool), np.full((4, 3), 0.2, dtype=np.float32)
    found = metrics_by_example(gold, scores, threshold=0.5).mean(axis=0)
    assert np.isnan(found).all()


def test_the_threshold_is_the_best_one_for_micro_f1() -> None:
    gold, scores = outcomes(seed=3)
    threshold, figure = best_threshold(gold, scores)
    every = [f1_score(gold, predictions(scores, t / 1000), average="micro") for t in range(1, 1000)]
    assert figure == pytest.approx(max(every)) == pytest.approx(every[round(threshold * 1000) - 1])


ROWS = [
    {
        "patient": n // 2,
        "id": 100 + n,
        "text": f"patient {n // 2} took {DRUGS[n % 3]} and {DRUGS[(n + n // 3) % 3]} daily",
        "labels": sorted({DRUGS[n % 3], DRUGS[(n + n // 3) % 3], *(["rare"] if n == 7 else [])}),
    }
    for n in range(60)
]


def write(folder: Path, name: str) -> None:
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(ROWS), folder / name)
    elif name.endswith(".feather"):
        feather.write_feather(pa.Table.from_pylist(ROWS), folder / name)
    elif name.endswith(".jsonl"):
        (folder / name).write_text("\n".join(map(json.dumps, ROWS)))
    else:
        lines = [f'{row["patient"]},{row["id"]},"{row["text"]}",{";".join(row["labels"])}' for row in ROWS]
        (folder / name).write_text("\n".join(["PATIENT,ID,TEXT,LABELS", *lines]))


def load(folder: Path, **fields: object) -> Splits[LabelSetExample]:
    splits = load_task(MultiLabelTask.model_validate({**TABLE, **fields}), str(folder))
    assert isinstance(splits, Splits)
    return splits


@pytest.mark.parametrize("name", ["codes.csv", "codes.jsonl", "codes.parquet", "codes.feather"])
def test_every_format_gives_the_same_texts_and_labels(tmp_path: Path, name: str) -> None:
    write(tmp_path, name)
    splits = load(tmp_path, train=name)
    found = {(e.text, e.labels) for part in splits.parts().values() for e in part}
    assert found == {(row["text"], tuple(row["labels"])) for row in ROWS}
    groups = [{e.group for e in part} for part in splits.parts().values()]
    assert sum(map(len, groups)) == len(set().union(*groups)) == 30


@pytest.mark.parametrize("name", ["codes.csv", "codes.parquet", "codes.feather"])
def test_a_corpus_can_be_decontaminated_against_a_table(tmp_path: Path, name: str) -> None:
    write(tmp_path, name)
    (tmp_path / "x_abstracts.tsv").write_text("1\tTitle\tAbstract of it\n")
    (tmp_path / "x_entities.tsv").write_text("1\tT1\tCHEMICAL\t0\t5\tTitle\n")
    *texts, last = evaluation_texts(tmp_path)
    assert last == "Title Abstract of it" and len(texts) == len(ROWS)
    assert all(row["text"] in text for row, text in zip(ROWS, texts, strict=True))


def test_rare_labels_and_texts_without_any_other_are_left_out_and_counted(tmp_path: Path) -> None:
    write(tmp_path, "codes.csv")
    assert load(tmp_path).facts["labels"] == 4
    assert load(tmp_path, min_label_texts=2).facts["labels"] == 3
    two = load(tmp_path, top_labels=2)
    of_others = sum(not {"rare", DRUGS[2]}.issuperset(row["labels"]) for row in ROWS)
    assert two.facts["labels"] == 2
    assert sum(map(len, two.parts().values())) + int(two.facts.get("texts_without_a_kept_label", 0)) == 60
    assert of_others <= 60
    with pytest.raises(SourceError, match="0 labels are left"):
        load(tmp_path, min_label_texts=1000)


def test_a_published_split_says_which_part_a_text_is_in(tmp_path: Path) -> None:
    write(tmp_path, "codes.parquet")
    split = [{"id": row["id"], "split": ("train", "train", "val", "test")[row["patient"] % 4]} for row in ROWS[:56]]
    feather.write_feather(pa.Table.from_pylist(split), tmp_path / "split.feather")
    splits = load(tmp_path, train="codes.parquet", id="id", splits="split.feather")
    assert [len(part) for part in splits.parts().values()] == [28, 14, 14]
    assert splits.facts["texts_of_no_split"] == 4
    for row, problem in (
        (split[0] | {"split": "test"}, "in two splits"),
        ({"id": 1, "split": "x"}, "expected a split"),
    ):
        feather.write_feather(pa.Table.from_pylist([*split, row]), tmp_path / "bad.feather")
        with pytest.raises(SourceError, match=f"bad.feather, row 57: .*{problem}"):
            load(tmp_path, train="codes.parquet", id="id", splits="bad.feather")


def test_mimic_iv_is_read_from_its_own_tables(tmp_path: Path) -> None:
    tables = {
        "note/discharge": ["note_id,subject_id,hadm_id,note_seq,text"]
        + [f'{n}-DS,{n // 2},{n},2,"addendum"\n{n}-DS,{n // 2},{n},1,"note {n}"' for n in range(20)],
        "hosp/diagnoses_icd": ["subject_id,hadm_id,seq_num,icd_code,icd_version"]
        + [f"{n // 2},{n},1,{('4019', 'E8120')[n % 2]},9\n{n // 2},{n},2,I10,10" for n in range(20)],
        "hosp/procedures_icd": ["subject_id,hadm_id,seq_num,chartdate,icd_code,icd_version"]
        + [f"{n // 2},{n},1,2100-01-01,4019,9\n{n // 2},{n},1,2100-01-01,0DTJ4ZZ,10" for n in range(20)],
    }
    for name, lines in tables.items():
        path = tmp_path / "mimic" / f"{name}.csv.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress("\n".join(lines).encode()))
    task = {"name": "icd", "type": "multi_label", "format": "mimic_iv", "train": "mimic"}
    for version, labels in ((9, {"401.9", "E812.0", "40.19"}), (10, {"I10", "0DTJ4ZZ"})):
        splits = load_task(MultiLabelTask.model_validate({**task, "icd_version": version}), str(tmp_path))
        assert isinstance(splits, Splits)
        examples = [e for part in splits.parts().values() for e in part]
        assert {label for e in examples for label in e.labels} == labels
        assert {(e.id, e.group, e.text) for e in examples} == {
            (str(n), str(n // 2), f"note {n}\n\naddendum") for n in range(20)
        }
    paths = KINDS["multi_label"].paths(MultiLabelTask.model_validate(task))
    assert [name for name in paths if name and not (tmp_path / name).is_file()] == []


def test_the_trivial_methods_find_labels_that_are_words(tmp_path: Path) -> None:
    write(tmp_path, "codes.csv")
    found = {b.name: b.scored.figures() for b in KINDS["multi_label"].baselines(load(tmp_path, min_label_texts=2))}
    assert found["TF-IDF + logistic regression"]["f1_micro"] > 0.95 > found["most frequent"]["f1_micro"]
    assert found["similar texts"]["auroc_micro"] > 0.9


@pytest.mark.parametrize("architecture", ["modernbert", "bert"])
def test_label_attention_learns_from_a_document_beyond_the_limit_and_is_published(
    architecture: str, encoder_folders: dict[str, Path], tmp_path: Path
) -> None:
    # The only telling word is beyond the encoder's 64 tokens.
    padding = "the patient took the medicine daily " * 14
    lines = [f'{n // 2},{n},"{padding} {DRUGS[n % 3]}",{DRUGS[n % 3]}' for n in range(60)]
    (tmp_path / "codes.csv").write_text("\n".join(["patient,id,text,labels", *lines]))
    task = {**TABLE, "label_attention": True}
    tuning = {"learning_rate": 5e-3, "num_epochs": 8, "batch_size": 8, "patience": 8}
    plan = tiny_run_plan(
        FineTuneRecipe, task, encoder_folders[architecture], tmp_path, str(tmp_path / "store"), tuning=tuning
    )
    artifact = run(plan)
    assert artifact.summary["metrics"]["f1_micro"] > 0.9 and artifact.summary["head"]["kind"] == "label_attention"
    assert read_scored(artifact).figures()["f1_micro"] == pytest.approx(artifact.summary["metrics"]["f1_micro"])
    weights = load_file(artifact.folder("model") / WEIGHTS_FILE)
    assert {name: array.shape for name, array in weights.items()} == {
        "projection.weight": (32, 32),
        "queries.weight": (3, 32),
        "output.weight": (3, 32),
        "output.bias": (3,),
    }


def test_a_pooled_head_is_served_with_sigmoids_and_a_probe_is_measured(
    encoder_folders: dict[str, Path], tmp_path: Path
) -> None:
    write(tmp_path, "codes.csv")
    task = {**TABLE, "min_label_texts": 2}
    tuning = {"learning_rate": 5e-3, "num_epochs": 16, "batch_size": 8, "patience": 16}
    made = [
        tiny_run_plan(kind, task, encoder_folders["modernbert"], tmp_path, str(tmp_path / "store"), tuning=tuning)
        for kind in (FineTuneRecipe, ProbeRecipe)
    ]
    tuned, probe = (Finished(plan.recipe, run(plan)) for plan in made)
    config = json.loads((tuned.artifact.folder("model") / "config.json").read_text())
    assert config["problem_type"] == "multi_label_classification"
    assert 0 < float(tuned.artifact.summary["head"]["threshold"]) < 1
    for finished in (tuned, probe):
        assert finished.artifact.summary["metrics"]["auroc_micro"] > 0.8
        splits = load_task(made[0].recipe.task, str(tmp_path))
        analysis = KINDS["multi_label"].errors(splits, [finished.outcome()], num_resamples=100, shown=False)
        assert set(analysis.by_type or {}) == set(DRUGS[:3])
        assert analysis.recall_by_rarity and analysis.examples is None
    scored = read_scored(tuned.artifact)
    halves = replace(scored, values={"metrics": scored.values["metrics"][::2]}, groups_N=scored.groups_N[::2])
    assert set(halves.figures()) == set(METRICS)
