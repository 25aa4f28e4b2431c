"""Whether an event follows within a horizon after a time of prediction, from MEDS events. A group is a patient.

Three outcomes: the event within the horizon, no event (followed to the horizon, or died before it without the event), and
censored: the record ends before the horizon. Censored examples do not train, and count in Harrell's C alone. Encoders give the
probability of the event within the horizon; no survival curve is fitted.

Legend: N examples, E of them with the event.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clinical_modernbert.errors import SourceError
from clinical_modernbert.evaluation.encoders import LocalEncoder
from clinical_modernbert.evaluation.report.schema import ErrorAnalysis
from clinical_modernbert.evaluation.results import Baseline, Facts, Outcome, StoredOutcome
from clinical_modernbert.evaluation.scores import Scored, group_numbers
from clinical_modernbert.evaluation.tasks import text_labels, trivial
from clinical_modernbert.evaluation.tasks.errors.texts import text_errors
from clinical_modernbert.evaluation.tasks.examples import Splits, TextExample, limited, subject_splits
from clinical_modernbert.evaluation.tasks.leaks import refuse_telling_words
from clinical_modernbert.evaluation.tasks.text_labels import auroc, sample_size, trains
from clinical_modernbert.evaluation.tasks.windows import encode_texts
from clinical_modernbert.recipe import RunRecipe
from clinical_modernbert.recipe.tasks import TimeToEventTask
from clinical_modernbert.sources.evaluation_sets.event_horizons import Prediction, read_predictions
from clinical_modernbert.sources.evaluation_sets.meds_sets import read_meds_splits
from clinical_modernbert.statistics import Floats

if TYPE_CHECKING:
    import torch

__all__ = [
    "MAIN_METRICS",
    "PLAIN",
    "SHOWN",
    "TITLE",
    "VALUES",
    "TimedExample",
    "average_precision",
    "baselines",
    "errors",
    "harrells_c",
    "load",
    "measure",
    "paths",
    "run",
    "sample_size",
    "trains",
]

TITLE = "time to event"
PLAIN = "Tell from a patient's record who will have an event, such as a readmission, within some days."
MAIN_METRICS = ("auroc",)
SHOWN = ("auroc", "auprc", "c_index")
VALUES = ("labels", "probabilities", "days", "happened")

NO_EVENT, EVENT, CENSORED = "no event", "event", "censored"
_LABELS = [NO_EVENT, EVENT]
_NOT_KNOWN = -1
_BLOCK = 256  # examples with the event at a time


@dataclass(frozen=True, slots=True)
class TimedExample:
    """A text with what happened after its time of prediction."""

    id: str
    group: str
    text: str
    label: str
    """``event``, ``no event`` or ``censored``, at the horizon."""
    days: float
    """From the time of prediction to the event, else to the end of the follow-up."""
    happened: bool
    """Whether the event ended the follow-up, within the horizon or later."""


def paths(task: TimeToEventTask) -> tuple[str, ...]:
    """Return the data set."""
    return (task.path,)


def load(task: TimeToEventTask, folder: Path) -> Splits[TimedExample]:
    """Read the times of prediction and split them by patient, or as the data set's own split says."""
    path = folder / task.path
    predictions = list(read_predictions(path, task))
    kept = [_example(prediction, task.horizon_days) for prediction in predictions if prediction.end != "before"]
    if not kept:
        raise SourceError(
            f"{path.name}: no event of predict_at ({', '.join(task.predict_at)}) that the subject's record continues after; "
            "expected prefixes of its codes"
        )
    known = [example for example in kept if example.label != CENSORED]
    refuse_telling_words(path.name, [example.text for example in known], [example.label for example in known])
    facts: Facts = {
        "event_within_the_horizon": f"{sum(e.label == EVENT for e in known)} of {len(known)}",
        "censored_before_the_horizon": len(kept) - len(known),
    }
    if len(kept) < len(predictions):
        facts["event_or_end_before_the_prediction_left_out"] = len(predictions) - len(kept)
    splits = subject_splits(kept, read_meds_splits(path), section=task.split, facts=facts, name="prediction")
    splits = replace(splits, train=_known(splits.train), development=_known(splits.development))
    splits = limited(splits, max_train=task.max_train, max_test=task.max_test)
    for name, part in (("train", splits.train), ("test", splits.test)):
        if {example.label for example in _known(part)} != set(_LABELS):
            raise SourceError(
                f"{path.name}: the {name} part needs examples with and without an event of {', '.join(task.event)} within "
                f"{task.horizon_days:g} days that are not censored"
            )
    if not splits.development:
        raise SourceError(f"{path.name}: all examples of the development part are censored")
    return splits


def _example(prediction: Prediction, horizon_days: float) -> TimedExample:
    happened = prediction.end == "event"
    if happened and prediction.days <= horizon_days:
        label = EVENT
    elif prediction.days >= horizon_days or prediction.end == "death":
        label = NO_EVENT
    else:
        label = CENSORED
    return TimedExample(prediction.id, prediction.group, prediction.text, label, prediction.days, happened)


def _known(part: Sequence[TimedExample]) -> list[TimedExample]:
    return [example for example in part if example.label != CENSORED]


def run(recipe: RunRecipe, encoder: LocalEncoder, splits: Splits[TimedExample]) -> Outcome:
    """Train on the examples that are not censored and score the test part."""
    from clinical_modernbert.evaluation.labelling import Item, Labelled, fit
    from clinical_modernbert.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(encoder.folder)
    items: dict[str, list[Item]] = {}
    num_cut = 0
    for name, part in splits.parts().items():
        found, cut = encode_texts(tokenizer, [example.text for example in part], max_tokens=encoder.max_tokens)
        items[name] = [Item(ids, (int(e.label == EVENT),)) for ids, e in zip(found, part, strict=True)]
        num_cut += cut

    def scored(part: Sequence[TimedExample], logits_NC: "torch.Tensor") -> Scored:
        return _scored(part, logits_NC.detach().cpu().double().softmax(dim=1).numpy())

    labelled = Labelled(
        head="sequence",
        labels=_LABELS,
        train=items["train"],
        development=items["development"],
        test=items["test"],
        development_figure=lambda logits_NC: _development_figure(scored(splits.development, logits_NC)),
    )
    logits_NC, tuned = fit(recipe, encoder, labelled)
    counts = {name: len(part) for name, part in splits.parts().items()}
    facts: Facts = {"texts_cut_to_the_limit": num_cut} if num_cut else {}
    return Outcome(scored(splits.test, logits_NC), counts, facts, _LABELS, tuned=tuned)


def _scored(part: Sequence[TimedExample], probabilities_NC: Floats) -> Scored:
    numbers = {NO_EVENT: 0, EVENT: 1, CENSORED: _NOT_KNOWN}
    values = {
        "labels": np.array([numbers[example.label] for example in part], dtype=np.float64),
        "probabilities": probabilities_NC,
        "days": np.array([example.days for example in part]),
        "happened": np.array([example.happened for example in part], dtype=np.float64),
    }
    return Scored(group_numbers([example.group for example in part]), values, measure)


def _development_figure(scored: Scored) -> float:
    return text_labels.SCORING.development_figure(scored)


def measure(values: dict[str, Floats], weights_N: Floats) -> dict[str, float]:
    """Return AUROC and AUPRC at the horizon, and Harrell's C of the whole follow-up.

    ``values``: labels [N] (0, 1, -1 for censored), probabilities [N, 2], days [N], happened [N].
    """
    labels_N, risks_N = values["labels"].astype(np.int64), values["probabilities"][:, 1]
    return {
        "auroc": auroc(labels_N, risks_N, weights_N),
        "auprc": average_precision(labels_N, risks_N, weights_N),
        "c_index": harrells_c(values["days"], values["happened"] > 0, risks_N, weights_N),
    }


def average_precision(labels_N: NDArray[np.int64], scores_N: Floats, weights_N: Floats) -> float:
    """Return the precision at each threshold, weighted by the recall it adds; NaN without a positive. Chance is their share."""
    order = np.argsort(-scores_N, kind="stable")
    scores, labels, weights = scores_N[order], labels_N[order], weights_N[order]
    # Examples of one score are found together: the places where the next score is lower.
    last = np.flatnonzero(np.append(np.diff(scores) < 0, True))
    right = np.cumsum(weights * (labels == 1))[last]
    found = right + np.cumsum(weights * (labels == 0))[last]
    if not right[-1]:
        return float("nan")
    precision = np.divide(right, found, out=np.zeros(len(last)), where=found > 0)
    return float(np.diff(right, prepend=0.0) @ precision / right[-1])


def harrells_c(days_N: Floats, happened_N: NDArray[np.bool_], risks_N: Floats, weights_N: Floats) -> float:
    """Return the share of comparable pairs in which the higher risk has the event first (Harrell et al., 1982).

    A pair is comparable if the event of one happened while the other was still followed. Equal risks count half. NaN without such
    a pair. It takes E times N comparisons.
    """
    right, pairs = 0.0, 0.0
    with_event = np.flatnonzero(happened_N & (weights_N > 0))
    for start in range(0, len(with_event), _BLOCK):
        rows = with_event[start : start + _BLOCK]
        days_E1, risks_E1 = days_N[rows, None], risks_N[rows, None]
        # An end of follow-up at the time of the event is after it.
        later_EN = (days_N > days_E1) | ((days_N == days_E1) & ~happened_N)
        order_EN = (risks_E1 > risks_N) + 0.5 * (risks_E1 == risks_N)
        pairs += float(weights_N[rows] @ (later_EN @ weights_N))
        right += float(weights_N[rows] @ ((later_EN * order_EN) @ weights_N))
    return right / pairs if pairs else float("nan")


def baselines(splits: Splits[TimedExample]) -> list[Baseline]:
    """Return the majority, logistic regression on TF-IDF, and the length of the text."""
    texts = _texts(splits)

    def figure(probabilities_NC: Floats) -> float:
        return _development_figure(_scored(splits.development, probabilities_NC))

    by_words, cost = trivial.by_words(texts, _LABELS, figure=figure)
    of_methods = (
        (
            "majority",
            "every text gets the frequencies of the training labels",
            trivial.majority(texts.train, _LABELS, len(texts.test)),
        ),
        (
            "TF-IDF + logistic regression",
            f"words and word pairs, C = {cost:g} of {trivial.COSTS} chosen on the development part",
            by_words,
        ),
        (
            "text length",
            "logistic regression on the logarithm of the number of words",
            trivial.by_length(texts, _LABELS),
        ),
    )
    return [Baseline(name, method, _scored(splits.test, probabilities)) for name, method, probabilities in of_methods]


def errors(
    splits: Splits[TimedExample], outcomes: Sequence[StoredOutcome], *, num_resamples: int, shown: bool
) -> ErrorAnalysis:
    """Return confused labels, and accuracy by length and by unknown words, of the examples that are not censored."""
    known = [number for number, example in enumerate(splits.test) if example.label != CENSORED]
    texts = _texts(replace(splits, test=_known(splits.test)))
    guesses = [[_LABELS[n] for n in o.arrays["probabilities"][known].argmax(1)] for o in outcomes]
    return text_errors(texts, guesses, shown=shown)


def _texts(splits: Splits[TimedExample]) -> Splits[TextExample]:
    """Return the same examples as texts with one label each."""
    parts = ([TextExample(e.id, e.group, e.text, e.label) for e in part] for part in splits.parts().values())
    train, development, test = parts
    return Splits(train=train, development=development, test=test, facts=splits.facts)
