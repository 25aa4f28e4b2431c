"""Texts or pairs of texts with one label each: how such tasks are run, measured and analysed. Several kinds use it.

With two classes the probability of the second one is ranked too (AUROC). A kind with another metric or another order of labels
makes its own ``Scoring``.

Legend: N examples, C classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clinical_modernbert.errors import SourceError
from clinical_modernbert.evaluation.encoders import LocalEncoder
from clinical_modernbert.evaluation.report.schema import ErrorAnalysis
from clinical_modernbert.evaluation.results import Baseline, Facts, Outcome, StoredOutcome
from clinical_modernbert.evaluation.scores import Measure, Scored, group_numbers, ratio
from clinical_modernbert.evaluation.tasks import trivial
from clinical_modernbert.evaluation.tasks.errors.texts import text_errors
from clinical_modernbert.evaluation.tasks.examples import Splits, TextExample
from clinical_modernbert.evaluation.tasks.windows import encode_examples
from clinical_modernbert.recipe import RunRecipe
from clinical_modernbert.recipe.tasks import Mode, Task
from clinical_modernbert.statistics import Floats

if TYPE_CHECKING:
    import torch

MAIN_METRICS = ("auroc", "f1_macro")
VALUES = ("labels", "probabilities")


def trains(task: Task, mode: Mode) -> bool:
    """Both modes train: the whole model, or a probe on frozen vectors."""
    return True


def sample_size(task: Task) -> int | None:
    """Return None: the paper's figures are over all reported examples."""
    return None


@dataclass(frozen=True, slots=True)
class Scoring:
    """What a kind counts."""

    measure: Measure
    development_figure: Callable[[Scored], float]
    labels: Callable[[Splits[TextExample]], list[str]]
    """All labels of the splits, in the order of the outputs."""


def run(recipe: RunRecipe, encoder: LocalEncoder, splits: Splits[TextExample]) -> Outcome:
    """Train on the splits and score the test part."""
    return run_scored(recipe, encoder, splits, SCORING)


def run_scored(recipe: RunRecipe, encoder: LocalEncoder, splits: Splits[TextExample], scoring: Scoring) -> Outcome:
    """Train on the splits and score the test part as ``scoring`` says; ``SourceError`` if all texts have one label."""
    from clinical_modernbert.evaluation.labelling import Item, Labelled, fit
    from clinical_modernbert.tokenizer import load_tokenizer

    parts = splits.parts()
    labels = scoring.labels(splits)
    if len(labels) < 2:  # every encoder would be right in all of them
        raise SourceError(
            f"task {recipe.task.name}: every text has the label {labels[0]!r}, nothing is to be told apart"
        )
    numbers = {label: number for number, label in enumerate(labels)}
    tokenizer = load_tokenizer(encoder.folder)
    items: dict[str, list[Item]] = {}
    num_cut = 0
    for name, part in parts.items():
        encoded, cut = encode_examples(
            tokenizer,
            [e.pair or e.text for e in part],
            max_tokens=encoder.max_tokens,
            joint=recipe.mode == "fine_tuned",
        )
        items[name] = [
            Item(ids, (numbers[e.label],), second_ids=second) for (ids, second), e in zip(encoded, part, strict=True)
        ]
        num_cut += cut

    def scored(part: str, logits_NC: "torch.Tensor") -> Scored:
        return scored_by(scoring, parts[part], labels, logits_NC.detach().cpu().double().softmax(dim=1).numpy())

    labelled = Labelled(
        head="sequence",
        labels=labels,
        train=items["train"],
        development=items["development"],
        test=items["test"],
        development_figure=lambda logits_NC: scoring.development_figure(scored("development", logits_NC)),
    )
    logits_NC, tuned = fit(recipe, encoder, labelled)
    counts = {name: len(part) for name, part in parts.items()}
    facts: Facts = {"texts_cut_to_the_limit": num_cut} if num_cut else {}
    return Outcome(scored("test", logits_NC), counts, facts, labels, tuned=tuned)


def _labels(splits: Splits[TextExample]) -> list[str]:
    return sorted({example.label for part in splits.parts().values() for example in part})


def scored_by(
    scoring: Scoring, examples: Sequence[TextExample], labels: Sequence[str], probabilities_NC: Floats
) -> Scored:
    """Return the outcomes of the examples."""
    labels_N = np.array([labels.index(example.label) for example in examples], dtype=np.float64)
    values = {"labels": labels_N, "probabilities": probabilities_NC}
    return Scored(group_numbers([example.group for example in examples]), values, scoring.measure)


def baselines(splits: Splits[TextExample]) -> list[Baseline]:
    """Return the majority, logistic regression on TF-IDF, and the length of the text."""
    return baselines_scored(splits, SCORING)


def baselines_scored(splits: Splits[TextExample], scoring: Scoring) -> list[Baseline]:
    """Return these baselines as ``scoring`` counts."""
    labels = scoring.labels(splits)

    def scored(probabilities_NC: Floats) -> Scored:
        return scored_by(scoring, splits.test, labels, probabilities_NC)

    def figure(probabilities_NC: Floats) -> float:
        return scoring.development_figure(scored_by(scoring, splits.development, labels, probabilities_NC))

    found = [
        Baseline(
            "majority",
            "every text gets the frequencies of the training labels",
            scored(trivial.majority(splits.train, labels, len(splits.test))),
        )
    ]
    if len({example.label for example in splits.train}) < 2:
        return found
    probabilities_NC, cost = trivial.by_words(splits, labels, figure=figure)
    method = f"words and word pairs, C = {cost:g} of {trivial.COSTS} chosen on the development part"
    return [
        *found,
        Baseline("TF-IDF + logistic regression", method, scored(probabilities_NC)),
        Baseline(
            "text length",
            "logistic regression on the logarithm of the number of words",
            scored(trivial.by_length(splits, labels)),
        ),
    ]


def _development_figure(scored: Scored) -> float:
    """Return the main metric; for a development part of one class, where AUROC is undefined, its mean probability."""
    figures = scored.figures()
    auroc_ = figures.get("auroc")
    if auroc_ is None:
        return figures["f1_macro"]
    if not np.isnan(auroc_):
        return auroc_
    labels_N = scored.values["labels"].astype(int)
    return float(scored.values["probabilities"][np.arange(len(labels_N)), labels_N].mean())


def measure(values: dict[str, Floats], weights_N: Floats) -> dict[str, float]:
    """Return accuracy, macro and weighted F1, and AUROC for two classes. ``values``: labels [N], probabilities [N, C]."""
    labels_N, probabilities_NC = values["labels"].astype(np.int64), values["probabilities"]
    figures = _confusion_metrics(labels_N, probabilities_NC, weights_N)
    if probabilities_NC.shape[1] == 2:
        figures["auroc"] = auroc(labels_N, probabilities_NC[:, 1], weights_N)
    return figures


SCORING = Scoring(measure, _development_figure, _labels)
"""Of kinds whose labels are all equal: accuracy, F1, AUROC."""


def _confusion_metrics(labels_N: NDArray[np.int64], probabilities_NC: Floats, weights_N: Floats) -> dict[str, float]:
    num = probabilities_NC.shape[1]
    cells = labels_N * num + probabilities_NC.argmax(axis=1)
    confusion = np.bincount(cells, weights=weights_N, minlength=num * num).reshape(num, num)
    right, gold, predicted = np.diag(confusion), confusion.sum(1), confusion.sum(0)
    f1_C = np.divide(2 * right, gold + predicted, out=np.zeros(num), where=gold + predicted > 0)
    # Like scikit-learn, leave out classes that are neither gold nor predicted in this sample.
    seen = gold + predicted > 0
    return {
        "accuracy": ratio(right.sum(), confusion.sum()),
        "f1_macro": float(f1_C[seen].mean()),
        "f1_weighted": ratio(float((f1_C * gold).sum()), gold.sum()),
    }


def auroc(labels_N: NDArray[np.int64], scores_N: Floats, weights_N: Floats) -> float:
    """Return the share of (positive, negative) pairs in the right order, ties counting half; NaN without one of the two."""
    order = np.argsort(scores_N, kind="stable")
    scores, labels, weights = scores_N[order], labels_N[order], weights_N[order]
    positive, negative = weights * (labels == 1), weights * (labels == 0)
    if not positive.sum() or not negative.sum():
        return float("nan")
    ties = np.concatenate([[0], np.cumsum(np.diff(scores) > 0)])
    positive_T, negative_T = np.bincount(ties, positive), np.bincount(ties, negative)
    below_T = np.cumsum(negative_T) - negative_T
    return float((positive_T * (below_T + negative_T / 2)).sum() / (positive.sum() * negative.sum()))


def errors(
    splits: Splits[TextExample], outcomes: Sequence[StoredOutcome], *, num_resamples: int, shown: bool
) -> ErrorAnalysis:
    """Return confused labels, and accuracy by length and by unknown words; ``num_resamples`` is not used."""
    guesses = [[o.labels[n] for n in o.arrays["probabilities"].argmax(1)] for o in outcomes]
    return text_errors(splits, guesses, shown=shown)
