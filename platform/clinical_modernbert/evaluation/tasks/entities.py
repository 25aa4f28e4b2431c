"""Named entities: one IOB2 tag a word, long documents in overlapping windows, span F1 and token accuracy. A group is a document.

``deidentification`` is the same task with other figures in its tables.

Legend: N examples, W words, C tags.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clinical_modernbert.evaluation.encoders import LocalEncoder
from clinical_modernbert.evaluation.report.schema import ErrorAnalysis
from clinical_modernbert.evaluation.results import Baseline, Facts, Outcome, StoredOutcome
from clinical_modernbert.evaluation.scores import Scored, group_numbers, ratio
from clinical_modernbert.evaluation.tasks import trivial
from clinical_modernbert.evaluation.tasks.annotations import read_annotations
from clinical_modernbert.evaluation.tasks.errors.entities import entity_errors
from clinical_modernbert.evaluation.tasks.examples import Splits, WordExample, limited, make_splits
from clinical_modernbert.evaluation.tasks.spans import COUNTS, tag_counts
from clinical_modernbert.evaluation.tasks.windows import Window, complete_tags, encode_words
from clinical_modernbert.recipe import RunRecipe
from clinical_modernbert.recipe.tasks import AnnotatedTask, Mode
from clinical_modernbert.statistics import Floats

if TYPE_CHECKING:
    import torch

TITLE = "entities"
PLAIN = "Find names of diseases, drugs and the like in a text."
MAIN_METRICS = ("f1",)
SHOWN = ("f1", "f1_strict", "f1_overlap", "token_accuracy")
VALUES = ("counts",)


def paths(task: AnnotatedTask) -> tuple[str | None, ...]:
    """Return the files of the three parts, and the documents of their sentences."""
    return task.train, task.development, task.test, *task.documents


def trains(task: AnnotatedTask, mode: Mode) -> bool:
    """Both modes train: the whole model, or a probe on frozen vectors."""
    return True


def sample_size(task: AnnotatedTask) -> int | None:
    """Return None: the paper's figures are over all reported examples."""
    return None


def load(task: AnnotatedTask, folder: Path) -> Splits[WordExample]:
    """Read the annotated texts and split them by document."""
    parts: list[list[WordExample] | None] = []
    facts: Facts = {}
    for name in (task.train, task.development, task.test):
        examples, lost = read_annotations(folder / name, task, data=folder) if name else (None, {})
        parts.append(examples)
        for fact, value in lost.items():
            before = facts.get(fact, 0)
            facts[fact] = before + value if isinstance(before, int) and isinstance(value, int) else value
    train, development, test = parts
    splits = make_splits(train or [], development, test, section=task.split, facts=facts)
    return limited(splits, max_train=task.max_train, max_test=task.max_test)


def run(recipe: RunRecipe, encoder: LocalEncoder, splits: Splits[WordExample]) -> Outcome:
    """Train on the splits and score the test part."""
    from clinical_modernbert.evaluation.labelling import Item, Labelled, fit
    from clinical_modernbert.tokenizer import load_tokenizer

    tags = _tag_set(splits)
    numbers = {tag: number for number, tag in enumerate(tags)}
    tokenizer = load_tokenizer(encoder.folder)
    parts = splits.parts()
    windows = {
        name: encode_words(tokenizer, part, max_tokens=encoder.max_tokens, stride=recipe.tuning.window_stride)
        for name, part in parts.items()
    }
    # The test part may have tags that training lacks; its labels are not trained on.
    items = {
        name: [
            Item(w.ids, [numbers.get(parts[name][w.example].tags[n], 0) for n in w.words], w.positions) for w in part
        ]
        for name, part in windows.items()
    }

    def predicted(part: str, logits_WC: "torch.Tensor") -> list[list[str]]:
        return _by_example(windows[part], [tags[n] for n in logits_WC.argmax(1).tolist()], parts[part])

    def development_figure(logits_WC: "torch.Tensor") -> float:
        return _scored(splits.development, predicted("development", logits_WC)).figures()["f1"]

    labelled = Labelled(
        head="token",
        labels=tags,
        train=items["train"],
        development=items["development"],
        test=items["test"],
        development_figure=development_figure,
        scheme="IOB2",
    )
    logits_WC, tuned = fit(recipe, encoder, labelled)
    predicted_tags = predicted("test", logits_WC)
    num_windows, num_documents = (sum(map(len, of_part.values())) for of_part in (windows, parts))
    facts: Facts = {}
    if num_windows > num_documents:
        facts["windows_beyond_one_a_document"] = num_windows - num_documents
    return Outcome(
        _scored(splits.test, predicted_tags),
        {**{name: len(part) for name, part in parts.items()}, "windows": num_windows},
        facts,
        tags,
        extra={"predicted": np.array([numbers.get(tag, 0) for example in predicted_tags for tag in example])},
        tuned=tuned,
    )


def _scored(examples: Sequence[WordExample], predicted: Sequence[Sequence[str]]) -> Scored:
    return Scored(group_numbers([e.group for e in examples]), {"counts": tag_counts(examples, predicted)}, measure)


def measure(values: dict[str, Floats], weights_N: Floats) -> dict[str, float]:
    """Return span F1, precision and recall, F1 strictly and by overlap, and figures of words. ``values``: ``tag_counts``.

    ``token_recall``, ``token_precision`` and ``token_f2`` are of words in an entity of any type; F2 counts recall twice.
    """
    of = dict(zip(COUNTS, weights_N @ values["counts"], strict=True))
    found, exact = ratio(of["gold_found"], of["gold"]), ratio(of["predicted_found"], of["predicted"])
    return {
        "f1": ratio(2 * of["right"], of["predicted"] + of["gold"]),
        "precision": ratio(of["right"], of["predicted"]),
        "recall": ratio(of["right"], of["gold"]),
        "f1_strict": ratio(2 * of["right_strict"], of["predicted_strict"] + of["gold"]),
        "f1_overlap": ratio(2 * found * exact, found + exact),
        "token_accuracy": ratio(of["right_words"], of["words"]),
        "token_recall": ratio(of["right_marked_words"], of["gold_words"]),
        "token_precision": ratio(of["right_marked_words"], of["predicted_words"]),
        "token_f2": ratio(5 * of["right_marked_words"], 4 * of["gold_words"] + of["predicted_words"]),
    }


def _tag_set(splits: Splits[WordExample]) -> list[str]:
    kinds = sorted({tag[2:] for p in (splits.train, splits.development) for e in p for tag in e.tags if tag != "O"})
    return ["O", *(f"{prefix}-{kind}" for kind in kinds for prefix in "BI")]


def _by_example(windows: Sequence[Window], tags: Sequence[str], examples: Sequence[WordExample]) -> list[list[str]]:
    """Return one tag for every word of every example, from the tags of judged words, window by window."""
    by_word: list[list[str | None]] = [[None] * len(example.words) for example in examples]
    judged = [(window.example, word) for window in windows for word in window.words]
    for (example, word), tag in zip(judged, tags, strict=True):
        by_word[example][word] = tag
    return [complete_tags(words) for words in by_word]


def baselines(splits: Splits[WordExample]) -> list[Baseline]:
    """Return no entity at all, and a dictionary of the training part."""
    nothing = [["O"] * len(example.tags) for example in splits.test]
    return [
        Baseline("no entity", "every word is outside", _scored(splits.test, nothing)),
        Baseline(
            "dictionary",
            "the longest run of words that is an entity in training, whatever its case",
            _scored(splits.test, trivial.dictionary_tags(splits.train, splits.test)),
        ),
    ]


def errors(
    splits: Splits[WordExample], outcomes: Sequence[StoredOutcome], *, num_resamples: int, shown: bool
) -> ErrorAnalysis:
    """Return F1 and recall by type, length and rarity of the entity, and by length of the document."""
    tags = [[outcome.labels[n] for n in outcome.arrays["predicted"]] for outcome in outcomes]
    return entity_errors(splits, tags, num_resamples=num_resamples, shown=shown)
