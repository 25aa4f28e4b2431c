"""Where runs go wrong: by label pair, entity type, length and rarity; over all seeds of an encoder.

Words and texts are shown only where the task says that its data is public, from the first seed; everything else is counts.

Legend: S seeds, N reported examples.
"""

import json
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clinical_modernbert.evaluation.examples import Splits, TextExample, WordExample
from clinical_modernbert.evaluation.retrieval_sets import RetrievalSet
from clinical_modernbert.evaluation.scores import RETRIEVAL_METRICS
from clinical_modernbert.evaluation.spans import entity_spans, f1
from clinical_modernbert.evaluation.tasks import load_task
from clinical_modernbert.recipe.tasks import Task

if TYPE_CHECKING:
    from clinical_modernbert.evaluation.report import Finished

_MOST_PAIRS = 10
_MOST_EXAMPLES = 5
_MOST_CHARACTERS = 200
# How often the training part has an entity's words: (at least, name).
_RARITY = ((6, "6 and more times in training"), (2, "2 to 5 times"), (1, "once"), (0, "never"))
# Where the first relevant document was ranked: (at most, name); 0 is beyond the search's depth.
_RANKS = ((1, "1"), (10, "2 to 10"), (100, "11 to 100"), (1000, "101 to 1,000"))


def error_analysis(task: Task, data: str, runs: Sequence["Finished"], *, shown: bool) -> dict[str, Any]:
    """Return mode -> encoder -> analysis of the runs trained on all examples."""
    loaded: Any = load_task(task, data)
    by_encoder: dict[tuple[str, str], list[Finished]] = {}
    for run in runs:
        if run.recipe.num_train is None:
            by_encoder.setdefault((run.mode, run.recipe.encoder.name), []).append(run)
    found: dict[str, Any] = {}
    for (mode, encoder), seeds in by_encoder.items():
        found.setdefault(mode, {})[encoder] = _analysis(loaded, seeds, shown=shown)
    return found


def _analysis(loaded: Any, runs: Sequence["Finished"], *, shown: bool) -> dict[str, Any]:
    outcomes = []
    for run in runs:
        with np.load(run.artifact.file("outcomes.npz"), allow_pickle=False) as arrays:
            outcomes.append({name: arrays[name] for name in arrays.files})
    if isinstance(loaded, RetrievalSet):
        return retrieval_errors(loaded.queries, [o["metrics"] for o in outcomes], [o["first_rank"] for o in outcomes])
    labels = [json.loads(run.artifact.file("report.json").read_bytes())["labels"] for run in runs]
    if isinstance(loaded.test[0], WordExample):
        tags = [[own[n] for n in o["predicted"]] for own, o in zip(labels, outcomes, strict=True)]
        return entity_errors(loaded, tags, shown=shown)
    guesses = [[own[n] for n in o["probabilities"].argmax(1)] for own, o in zip(labels, outcomes, strict=True)]
    return text_errors(loaded, guesses, shown=shown)


def text_errors(splits: Splits[TextExample], predicted: Sequence[Sequence[str]], *, shown: bool) -> dict[str, Any]:
    """Return the most frequent wrong label pairs, and accuracy by length and by how many words training lacks.

    ``predicted`` has the labels of the reported part for each seed; counts of pairs are means over seeds.
    """
    gold = [e.label for e in splits.test]
    pairs = Counter((a, b) for guesses in predicted for a, b in zip(gold, guesses, strict=True) if a != b)
    right_N = np.mean([[a == b for a, b in zip(gold, guesses, strict=True)] for guesses in predicted], axis=0)
    known = {word for e in splits.train for word in e.text.lower().split()}
    words = [e.text.lower().split() for e in splits.test]
    unknown_N = np.array([sum(word not in known for word in own) / max(len(own), 1) for own in words])
    analysis: dict[str, Any] = {
        "label_pairs": _pairs(pairs, len(predicted)),
        "by_length": [
            {"words": [int(low), int(high)], "examples": int(here.sum()), "accuracy": float(right_N[here].mean())}
            for low, high, here in _quartiles(np.array([len(own) for own in words]))
        ],
        "by_unknown_words": [
            {"share": [float(low), float(high)], "examples": int(here.sum()), "accuracy": float(right_N[here].mean())}
            for low, high, here in _quartiles(unknown_N)
        ],
    }
    if shown:
        wrong = [(e, guess) for e, guess in zip(splits.test, predicted[0], strict=True) if e.label != guess]
        analysis["examples"] = [
            {"text": e.text[:_MOST_CHARACTERS], "gold": e.label, "predicted": guess}
            for e, guess in wrong[:_MOST_EXAMPLES]
        ]
    return analysis


def entity_errors(splits: Splits[WordExample], predicted: Sequence[Sequence[str]], *, shown: bool) -> dict[str, Any]:
    """Return F1 by type and by length of the document, recall by length and rarity of the entity, and confused types.

    ``predicted`` has for each seed one tag a word, example after example; ``gold`` counts entities once, whatever the seeds.
    """
    known = Counter(_words(e, first, last) for e in splits.train for _, first, last in entity_spans(e.tags))
    by_type, by_words, by_rarity = {}, {}, {}  # type: dict[str, Counter[str]], dict[str, Counter[str]], dict[str, Counter[str]]
    documents = [Counter[str]() for _ in splits.test]
    confused: Counter[tuple[str, str]] = Counter()
    missed: list[dict[str, str]] = []
    for seed, tags in enumerate(predicted):
        at = 0
        for e, document in zip(splits.test, documents, strict=True):
            guess, at = entity_spans(tags[at : at + len(e.tags)]), at + len(e.tags)
            places = {(first, last): kind for kind, first, last in guess}
            document.update(predicted=len(guess))
            for kind, _, _ in guess:
                by_type.setdefault(kind, Counter())["predicted"] += 1
            for span in sorted(entity_spans(e.tags), key=lambda s: s[1]):
                kind, first, last = span
                right = int(span in guess)
                text = _words(e, first, last)
                rarity = next(name for least, name in _RARITY if known[text] >= least)
                length = f"{min(last - first + 1, 5)}{'+' if last - first >= 4 else ''}"
                for table, key in ((by_type, kind), (by_words, length), (by_rarity, rarity)):
                    table.setdefault(key, Counter()).update(gold=1, right=right)
                document.update(gold=1, right=right)
                other = places.get((first, last))
                if other and other != kind:
                    confused[kind, other] += 1
                if not right and not seed:
                    missed.append(
                        {
                            "entity": text[:_MOST_CHARACTERS],
                            "gold": kind,
                            "predicted": other or "other borders, or none",
                        }
                    )
    seeds = len(predicted)
    lengths = np.array([len(e.words) for e in splits.test])
    analysis: dict[str, Any] = {
        "by_type": {
            kind: {"f1": f1(c["right"], c["predicted"], c["gold"]), "gold": c["gold"] // seeds}
            for kind, c in sorted(by_type.items())
        },
        "by_document_words": [
            {"words": [int(low), int(high)], "documents": int(here.sum()), "f1": _joint_f1(documents, here)}
            for low, high, here in _quartiles(lengths)
        ],
        "recall_by_words": _recalls({key: by_words[key] for key in sorted(by_words)}, seeds),
        "recall_by_rarity": _recalls({key: by_rarity[key] for _, key in _RARITY if key in by_rarity}, seeds),
        "label_pairs": _pairs(confused, seeds),
    }
    if shown:
        analysis["examples"] = missed[:_MOST_EXAMPLES]
    return analysis


def retrieval_errors(
    queries: Sequence[str], metrics: Sequence[NDArray[np.float64]], first_ranks: Sequence[NDArray[np.int64]]
) -> dict[str, Any]:
    """Return where the first relevant document was ranked (queries, mean over seeds), and metrics by the query's length."""
    ranks_SN = np.stack(first_ranks)
    num_seeds = len(ranks_SN)
    ranked, least = {}, 1
    for most, name in _RANKS:
        ranked[name] = int(((ranks_SN >= least) & (ranks_SN <= most)).sum()) / num_seeds
        least = most + 1
    ranked["not found"] = int((ranks_SN == 0).sum()) / num_seeds
    means_NM = np.mean(np.stack(metrics), axis=0)
    by_length = [
        {
            "words": [int(low), int(high)],
            "queries": int(here.sum()),
            **dict(zip(RETRIEVAL_METRICS, means_NM[here].mean(0).tolist(), strict=True)),
        }
        for low, high, here in _quartiles(np.array([len(query.split()) for query in queries]))
    ]
    return {"first_relevant_rank": ranked, "by_query_words": by_length}


def _quartiles(values_N: NDArray[Any]) -> list[tuple[float, float, NDArray[np.bool_]]]:
    """Return (low, high, which) of each quarter that holds anything; quarters that would be alike are one."""
    edges = np.unique(np.quantile(values_N, [0, 0.25, 0.5, 0.75, 1]))
    if len(edges) == 1:
        return [(edges[0], edges[0], np.ones(len(values_N), dtype=bool))]
    parts = [
        (low, high, (values_N >= low) & ((values_N < high) | (high == edges[-1]))) for low, high in pairwise(edges)
    ]
    return [part for part in parts if part[2].any()]


def _joint_f1(documents: Sequence[Counter[str]], chosen: NDArray[np.bool_]) -> float:
    total = sum((documents[number] for number in np.flatnonzero(chosen).tolist()), Counter[str]())
    return f1(total["right"], total["predicted"], total["gold"])


def _recalls(table: dict[str, Counter[str]], seeds: int) -> dict[str, dict[str, float]]:
    return {key: {"recall": c["right"] / c["gold"], "gold": c["gold"] // seeds} for key, c in table.items()}


def _pairs(counts: Counter[tuple[str, str]], seeds: int) -> list[dict[str, Any]]:
    return [{"gold": a, "predicted": b, "examples": n / seeds} for (a, b), n in counts.most_common(_MOST_PAIRS)]


def _words(example: WordExample, first: int, last: int) -> str:
    return example.text[example.words[first][0] : example.words[last][1]].lower()
