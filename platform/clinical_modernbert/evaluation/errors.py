"""Where runs go wrong: by label pair, entity type, length, and whether the training part had it. The first seed of each encoder.

Words and texts are shown only where the task says that its data is public; everything else is counts.
"""

import json
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from clinical_modernbert.evaluation.examples import Splits, TextExample, WordExample
from clinical_modernbert.evaluation.spans import entity_spans, f1
from clinical_modernbert.evaluation.tasks import load_task
from clinical_modernbert.recipe.tasks import Task

if TYPE_CHECKING:
    from clinical_modernbert.evaluation.report import Finished

_MOST_PAIRS = 10
_MOST_EXAMPLES = 5
_MOST_CHARACTERS = 200


def error_analysis(task: Task, data: str, runs: Sequence["Finished"], *, shown: bool) -> dict[str, Any]:
    """Return mode -> encoder -> analysis of the first seed trained on all examples."""
    splits: Any = load_task(task, data)
    found: dict[str, Any] = {}
    for run in runs:
        here = found.setdefault(run.mode, {})
        if run.recipe.num_train is not None or run.recipe.encoder.name in here:
            continue
        labels = json.loads(run.artifact.file("report.json").read_bytes())["labels"]
        with np.load(run.artifact.file("outcomes.npz"), allow_pickle=False) as arrays:
            if isinstance(splits.test[0], WordExample):
                analysis = entity_errors(splits, [labels[n] for n in arrays["predicted"]], shown=shown)
            else:
                analysis = text_errors(splits, [labels[n] for n in arrays["probabilities"].argmax(1)], shown=shown)
        here[run.recipe.encoder.name] = analysis
    return found


def text_errors(splits: Splits[TextExample], predicted: Sequence[str], *, shown: bool) -> dict[str, Any]:
    """Return the most frequent wrong label pairs and accuracy by length."""
    pairs = Counter((e.label, guess) for e, guess in zip(splits.test, predicted, strict=True) if e.label != guess)
    words = np.array([len(e.text.split()) for e in splits.test])
    right = np.array([e.label == guess for e, guess in zip(splits.test, predicted, strict=True)])
    edges = np.unique(np.quantile(words, [0, 0.25, 0.5, 0.75, 1]))
    lengths = []
    for low, high in pairwise(edges):
        here = (words >= low) & ((words < high) | (high == edges[-1]))
        lengths.append(
            {"words": [int(low), int(high)], "examples": int(here.sum()), "accuracy": float(right[here].mean())}
        )
    analysis: dict[str, Any] = {
        "label_pairs": [{"gold": a, "predicted": b, "examples": n} for (a, b), n in pairs.most_common(_MOST_PAIRS)],
        "by_length": lengths,
    }
    if shown:
        wrong = [(e, guess) for e, guess in zip(splits.test, predicted, strict=True) if e.label != guess]
        analysis["examples"] = [
            {"text": e.text[:_MOST_CHARACTERS], "gold": e.label, "predicted": guess}
            for e, guess in wrong[:_MOST_EXAMPLES]
        ]
    return analysis


def entity_errors(splits: Splits[WordExample], predicted: Sequence[str], *, shown: bool) -> dict[str, Any]:
    """Return F1 by type, recall by length in words and by whether training had the entity, and confused types."""
    known = {_words(e, first, last) for e in splits.train for _, first, last in entity_spans(e.tags)}
    by_type: dict[str, Counter[str]] = {}
    by_length: dict[str, Counter[str]] = {}
    by_rarity: dict[str, Counter[str]] = {}
    confused: Counter[tuple[str, str]] = Counter()
    missed: list[dict[str, str]] = []
    at = 0
    for e in splits.test:
        guess, at = entity_spans(predicted[at : at + len(e.tags)]), at + len(e.tags)
        gold = entity_spans(e.tags)
        places = {(first, last): kind for kind, first, last in guess}
        for kind, _, _ in guess:
            by_type.setdefault(kind, Counter())["predicted"] += 1
        for span in sorted(gold, key=lambda s: s[1]):
            kind, first, last = span
            right = span in guess
            text = _words(e, first, last)
            for table, key in (
                (by_type, kind),
                (by_length, f"{min(last - first + 1, 5)}{'+' if last - first >= 4 else ''}"),
                (by_rarity, "in training" if text in known else "not in training"),
            ):
                table.setdefault(key, Counter()).update(gold=1, right=int(right))
            other = places.get((first, last))
            if other and other != kind:
                confused[kind, other] += 1
            if not right:
                missed.append(
                    {"entity": text[:_MOST_CHARACTERS], "gold": kind, "predicted": other or "other borders, or none"}
                )
    analysis: dict[str, Any] = {
        "by_type": {
            kind: {"f1": f1(c["right"], c["predicted"], c["gold"]), "gold": c["gold"]}
            for kind, c in sorted(by_type.items())
        },
        "recall_by_words": _recalls(by_length),
        "recall_by_rarity": _recalls(by_rarity),
        "label_pairs": [{"gold": a, "predicted": b, "examples": n} for (a, b), n in confused.most_common(_MOST_PAIRS)],
    }
    if shown:
        analysis["examples"] = missed[:_MOST_EXAMPLES]
    return analysis


def _recalls(table: dict[str, Counter[str]]) -> dict[str, dict[str, float]]:
    return {key: {"recall": c["right"] / c["gold"], "gold": c["gold"]} for key, c in sorted(table.items())}


def _words(example: WordExample, first: int, last: int) -> str:
    return example.text[example.words[first][0] : example.words[last][1]].lower()
