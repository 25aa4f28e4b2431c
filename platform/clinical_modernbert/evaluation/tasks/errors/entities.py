"""Where runs go wrong on entities: by type, length and rarity of the entity, and by length of its document.

Entities are quoted only if the data set is public, and from the first seed; everything else is counts.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clinical_modernbert.evaluation.report.schema import (
    DocumentBucket,
    EntityExampleError,
    ErrorAnalysis,
    Recall,
    TypeErrors,
)
from clinical_modernbert.evaluation.tasks.errors.buckets import (
    MOST_CHARACTERS,
    MOST_EXAMPLES,
    label_pairs,
    quartiles,
    recall,
)
from clinical_modernbert.evaluation.tasks.examples import Splits, WordExample
from clinical_modernbert.evaluation.tasks.spans import entity_spans, f1, overlapped

# How often the training split has the words of an entity: (at least, name).
_RARITY = ((6, "6 and more times in training"), (2, "2 to 5 times"), (1, "once"), (0, "never"))
_MOST_WORDS = 5  # longer entities are counted together


@dataclass(frozen=True, slots=True)
class _Entity:
    """An annotated entity and what one seed makes of it."""

    seed: int
    document: int
    group: str
    type: str
    text: str
    """Its words in lower case."""
    num_words: int
    right: bool
    overlaps: bool
    """Whether a prediction of its type shares a word with it."""
    num_found_words: int
    """Words that are in a prediction of any type."""
    predicted_type: str | None
    """Of the prediction with the same borders, if there is one."""


@dataclass(frozen=True, slots=True)
class _Predicted:
    """An entity that one seed predicts."""

    document: int
    type: str


def entity_errors(
    splits: Splits[WordExample], predicted: Sequence[Sequence[str]], *, num_resamples: int, shown: bool
) -> ErrorAnalysis:
    """Return F1 by type and by length of the document, recall by length and rarity of the entity, and confused types.

    ``predicted`` has for each seed one tag a word, example after example; ``gold`` counts entities once, whatever the seeds.
    Recall has a 95 % interval over seeds and groups.
    """
    num_seeds = len(predicted)
    entities: list[_Entity] = []
    guesses: list[_Predicted] = []
    for seed, tags in enumerate(predicted):
        for document, (example, spans) in enumerate(_predicted_spans(splits.test, tags)):
            entities += _judged(example, spans, seed=seed, document=document)
            guesses += [_Predicted(document, kind) for kind, _, _ in spans]
    in_training = Counter(_text(e, first, last) for e in splits.train for _, first, last in entity_spans(e.tags))
    by_words: dict[str, list[_Entity]] = defaultdict(list)
    by_rarity: dict[str, list[_Entity]] = defaultdict(list)
    for entity in entities:
        by_words[f"{_MOST_WORDS}+" if entity.num_words >= _MOST_WORDS else str(entity.num_words)].append(entity)
        by_rarity[next(name for least, name in _RARITY if in_training[entity.text] >= least)].append(entity)

    def recalls(buckets: dict[str, list[_Entity]], names: Sequence[str]) -> dict[str, Recall]:
        return {
            name: _recall(buckets[name], num_seeds, num_resamples=num_resamples) for name in names if name in buckets
        }

    confused = Counter((e.type, e.predicted_type) for e in entities if e.predicted_type and e.predicted_type != e.type)
    return ErrorAnalysis(
        by_type=_by_type(entities, guesses, num_seeds),
        by_document_words=_by_document_words(splits.test, entities, guesses),
        recall_by_words=recalls(by_words, sorted(by_words)),
        recall_by_rarity=recalls(by_rarity, [name for _, name in _RARITY]),
        label_pairs=label_pairs(confused, num_seeds),
        examples=_missed(entities) if shown else None,
    )


def _predicted_spans(
    examples: Sequence[WordExample], tags: Sequence[str]
) -> Iterator[tuple[WordExample, set[tuple[str, int, int]]]]:
    start = 0
    for example in examples:
        end = start + len(example.tags)
        yield example, entity_spans(tags[start:end])
        start = end


def _judged(
    example: WordExample, predicted: set[tuple[str, int, int]], *, seed: int, document: int
) -> Iterator[_Entity]:
    type_at = {(first, last): kind for kind, first, last in predicted}
    gold = entity_spans(example.tags)
    found = overlapped(gold, predicted)
    words = {word for _, first, last in predicted for word in range(first, last + 1)}
    for kind, first, last in sorted(gold, key=lambda span: span[1]):
        yield _Entity(
            seed=seed,
            document=document,
            group=example.group,
            type=kind,
            text=_text(example, first, last),
            num_words=last - first + 1,
            right=(kind, first, last) in predicted,
            overlaps=(kind, first, last) in found,
            num_found_words=sum(word in words for word in range(first, last + 1)),
            predicted_type=type_at.get((first, last)),
        )


def _recall(entities: Sequence[_Entity], num_seeds: int, *, num_resamples: int) -> Recall:
    numbers = {group: number for number, group in enumerate(dict.fromkeys(entity.group for entity in entities))}
    right_GS, gold_G = np.zeros((len(numbers), num_seeds)), np.zeros(len(numbers))
    for entity in entities:
        right_GS[numbers[entity.group], entity.seed] += entity.right
        gold_G[numbers[entity.group]] += entity.seed == 0
    return recall(right_GS, gold_G, num_resamples=num_resamples)


def _by_type(entities: Sequence[_Entity], guesses: Sequence[_Predicted], num_seeds: int) -> dict[str, TypeErrors]:
    gold, right, overlap, words, found = (Counter[str]() for _ in range(5))
    for entity in entities:
        gold[entity.type] += 1
        right[entity.type] += entity.right
        overlap[entity.type] += entity.overlaps
        words[entity.type] += entity.num_words
        found[entity.type] += entity.num_found_words
    predicted = Counter(guess.type for guess in guesses)
    return {
        kind: TypeErrors(
            f1=f1(right[kind], predicted[kind], gold[kind]),
            gold=gold[kind] // num_seeds,
            recall=right[kind] / gold[kind] if gold[kind] else None,
            recall_overlap=overlap[kind] / gold[kind] if gold[kind] else None,
            recall_words=found[kind] / words[kind] if gold[kind] else None,
        )
        for kind in sorted(gold.keys() | predicted.keys())
    }


def _by_document_words(
    examples: Sequence[WordExample], entities: Sequence[_Entity], guesses: Sequence[_Predicted]
) -> list[DocumentBucket]:
    num = len(examples)
    gold_N = np.bincount([entity.document for entity in entities], minlength=num)
    right_N = np.bincount([entity.document for entity in entities if entity.right], minlength=num)
    predicted_N = np.bincount([guess.document for guess in guesses], minlength=num)

    def joint_f1(chosen_N: NDArray[np.bool_]) -> float:
        right, predicted, gold = (int(counts_N[chosen_N].sum()) for counts_N in (right_N, predicted_N, gold_N))
        return f1(right, predicted, gold)

    return [
        DocumentBucket(words=(int(low), int(high)), documents=int(chosen_N.sum()), f1=joint_f1(chosen_N))
        for low, high, chosen_N in quartiles(np.array([len(example.words) for example in examples]))
    ]


def _missed(entities: Sequence[_Entity]) -> list[EntityExampleError]:
    missed = [entity for entity in entities if not entity.right and entity.seed == 0]
    return [
        EntityExampleError(
            entity=entity.text[:MOST_CHARACTERS],
            gold=entity.type,
            predicted=entity.predicted_type or "other borders, or none",
        )
        for entity in missed[:MOST_EXAMPLES]
    ]


def _text(example: WordExample, first: int, last: int) -> str:
    return example.text[example.words[first][0] : example.words[last][1]].lower()
