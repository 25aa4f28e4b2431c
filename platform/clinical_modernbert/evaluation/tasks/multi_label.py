"""Texts with any number of labels: phenotypes and ICD coding. A group is what ``group`` names, MIMIC's patient, else a row.

A label is predicted from a threshold on, one for all labels, chosen on the development part by micro F1.

Legend: N examples, L labels, M metrics.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clinical_modernbert.evaluation.encoders import LocalEncoder
from clinical_modernbert.evaluation.report.schema import ErrorAnalysis
from clinical_modernbert.evaluation.results import Baseline, Facts, Outcome, StoredOutcome
from clinical_modernbert.evaluation.scores import Scored, group_numbers
from clinical_modernbert.evaluation.tasks import label_set_trivial
from clinical_modernbert.evaluation.tasks.errors.label_sets import label_set_errors
from clinical_modernbert.evaluation.tasks.examples import LabelSetExample, Splits
from clinical_modernbert.evaluation.tasks.label_set_metrics import (
    METRICS,
    PRECISION_AT,
    Bools,
    Scores,
    best_threshold,
    metrics_by_example,
    predictions,
)
from clinical_modernbert.evaluation.tasks.label_sets import load_label_sets
from clinical_modernbert.evaluation.tasks.windows import encode_texts
from clinical_modernbert.recipe import RunRecipe
from clinical_modernbert.recipe.tasks import Mode, MultiLabelTask
from clinical_modernbert.statistics import Floats

if TYPE_CHECKING:
    import torch

TITLE = "labels of notes"
PLAIN = "Give each note all labels that apply, such as the codes of its stay."
MAIN_METRICS = ("f1_micro",)
SHOWN = ("f1_micro", "f1_macro", "auroc_micro", "auroc_macro", *(f"precision@{k}" for k in PRECISION_AT))
VALUES = ("metrics",)


def paths(task: MultiLabelTask) -> tuple[str | None, ...]:
    """Return the files of the three parts and of their split; of MIMIC-IV the tables that are read."""
    if task.format == "table":
        return task.train, task.development, task.test, task.splits
    tables = ("hosp/diagnoses_icd", "hosp/procedures_icd", "note/discharge")
    return *(f"{task.train}/{table}.csv.gz" for table in tables), task.splits


def trains(task: MultiLabelTask, mode: Mode) -> bool:
    """Both modes train: the whole model, or a probe on frozen vectors."""
    return True


def sample_size(task: MultiLabelTask) -> int | None:
    """Return None: figures are over all reported examples."""
    return None


def load(task: MultiLabelTask, folder: Path) -> Splits[LabelSetExample]:
    """Read the texts, keep the labels that the recipe asks for, and split the texts by file or by group."""
    return load_label_sets(task, folder)


def run(recipe: RunRecipe, encoder: LocalEncoder, splits: Splits[LabelSetExample]) -> Outcome:
    """Train on the splits, choose the threshold on the development part, and score the test part."""
    from clinical_modernbert.evaluation.labelling import Item, Labelled, fit
    from clinical_modernbert.tokenizer import load_tokenizer

    assert isinstance(recipe.task, MultiLabelTask)
    label_attention = recipe.task.label_attention and recipe.mode == "fine_tuned"
    labels = _labels(splits)
    numbers = {label: number for number, label in enumerate(labels)}
    tokenizer = load_tokenizer(encoder.folder)
    limit = recipe.task.max_document_tokens if label_attention else encoder.max_tokens
    items: dict[str, list[Item]] = {}
    num_cut = 0
    for name, part in splits.parts().items():
        ids, cut = encode_texts(tokenizer, [e.text for e in part], max_tokens=limit)
        items[name] = [Item(ids_T, [numbers[label] for label in e.labels]) for ids_T, e in zip(ids, part, strict=True)]
        num_cut += cut
    gold_NL = _gold(splits.development, labels)

    def scores(logits_NL: "torch.Tensor") -> Scores:
        found: Scores = logits_NL.detach().cpu().float().sigmoid().numpy()
        return found

    labelled = Labelled(
        head="sequence",
        labels=labels,
        train=items["train"],
        development=items["development"],
        # Both parts are read with the trained model: its threshold is that of its own scores.
        test=items["development"] + items["test"],
        development_figure=lambda logits_NL: best_threshold(gold_NL, scores(logits_NL))[1],
        target="label_set",
        label_attention=label_attention,
    )
    logits_NL, tuned = fit(recipe, encoder, labelled)
    found_NL = scores(logits_NL)
    threshold, _ = best_threshold(gold_NL, found_NL[: len(gold_NL)])
    test_NL = found_NL[len(gold_NL) :]
    facts: Facts = {"threshold": f"{threshold:.3f}"} | ({"texts_cut_to_the_limit": num_cut} if num_cut else {})
    predicted = np.argwhere(predictions(test_NL, threshold)).astype(np.int64)
    return Outcome(
        _scored(splits.test, labels, test_NL, threshold),
        {name: len(part) for name, part in splits.parts().items()},
        facts,
        labels,
        extra={"predicted": predicted},
        tuned=tuned if tuned is None else replace(tuned, head={**tuned.head, "threshold": f"{threshold:.3f}"}),
    )


def _labels(splits: Splits[LabelSetExample]) -> list[str]:
    return sorted({label for part in splits.parts().values() for example in part for label in example.labels})


def _gold(examples: Sequence[LabelSetExample], labels: Sequence[str]) -> Bools:
    numbers = {label: number for number, label in enumerate(labels)}
    gold_NL = np.zeros((len(examples), len(labels)), dtype=np.bool_)
    for row, example in enumerate(examples):
        gold_NL[row, [numbers[label] for label in example.labels]] = True
    return gold_NL


def _scored(examples: Sequence[LabelSetExample], labels: Sequence[str], scores_NL: Scores, threshold: float) -> Scored:
    metrics_NM = metrics_by_example(_gold(examples, labels), scores_NL, threshold=threshold)
    return Scored(group_numbers([example.group for example in examples]), {"metrics": metrics_NM}, measure)


def measure(values: dict[str, Floats], weights_N: Floats) -> dict[str, float]:
    """Return the metrics. ``values``: metrics [N, M] as ``label_set_metrics`` returns them."""
    means = weights_N @ values["metrics"] / max(weights_N.sum(), 1e-12)
    return {name: float(mean) for name, mean in zip(METRICS, means, strict=True)}


def baselines(splits: Splits[LabelSetExample]) -> list[Baseline]:
    """Return the most frequent labels, the labels of similar texts, and logistic regression where labels are few."""
    labels = _labels(splits)
    development_NL = _gold(splits.development, labels)
    found = []
    for name, method, scores in label_set_trivial.methods(splits, _gold(splits.train, labels)):
        threshold, _ = best_threshold(development_NL, scores.development)
        found.append(Baseline(name, method, _scored(splits.test, labels, scores.test, threshold)))
    return found


def errors(
    splits: Splits[LabelSetExample], outcomes: Sequence[StoredOutcome], *, num_resamples: int, shown: bool
) -> ErrorAnalysis:
    """Return F1 of the most frequent labels, recall by a label's number in training, and F1 by length; quotes nothing."""
    predicted = [outcome.arrays["predicted"] for outcome in outcomes]
    return label_set_errors(splits, outcomes[0].labels, predicted, num_resamples=num_resamples)
