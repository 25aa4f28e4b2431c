"""Where runs go wrong: by label pair, length and rarity, and by what retrieval ranks; over all seeds of an encoder.

Words and texts are shown only where the task says that its data is public, from the first seed; everything else is counts.

Legend: S seeds, N reported examples.
"""

import json
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clinical_modernbert.evaluation.report.errors.buckets import MOST_CHARACTERS, MOST_EXAMPLES, label_pairs, quartiles
from clinical_modernbert.evaluation.report.errors.entities import entity_errors
from clinical_modernbert.evaluation.scores import RETRIEVAL_METRICS
from clinical_modernbert.evaluation.tasks.examples import Splits, TextExample, WordExample
from clinical_modernbert.evaluation.tasks.load import load_task
from clinical_modernbert.evaluation.tasks.retrieval_sets import RetrievalSet
from clinical_modernbert.recipe.tasks import Task

if TYPE_CHECKING:
    from clinical_modernbert.evaluation.report.build import Finished

# Where the first relevant document was ranked: (at most, name); 0 is beyond the search's depth.
_RANKS = ((1, "1"), (10, "2 to 10"), (100, "11 to 100"), (1000, "101 to 1,000"))
# How many documents answer a query: (at least, name). With more than 10 no system reaches a recall@10 of 1.
_RELEVANT = ((11, "11 and more"), (6, "6 to 10"), (2, "2 to 5"), (1, "1"))


def error_analysis(
    task: Task, data: str, runs: Sequence["Finished"], *, num_resamples: int, shown: bool
) -> dict[str, Any]:
    """Return mode -> encoder -> analysis of the runs trained on all examples."""
    loaded: Any = load_task(task, data)
    by_encoder: dict[tuple[str, str], list[Finished]] = {}
    for run in runs:
        if run.recipe.num_train is None:
            by_encoder.setdefault((run.mode, run.recipe.encoder.name), []).append(run)
    found: dict[str, Any] = {}
    for (mode, encoder), seeds in by_encoder.items():
        found.setdefault(mode, {})[encoder] = _analysis(loaded, seeds, num_resamples=num_resamples, shown=shown)
    return found


def _analysis(loaded: Any, runs: Sequence["Finished"], *, num_resamples: int, shown: bool) -> dict[str, Any]:
    outcomes = []
    for run in runs:
        with np.load(run.artifact.file("outcomes.npz"), allow_pickle=False) as arrays:
            outcomes.append({name: arrays[name] for name in arrays.files})
    if isinstance(loaded, RetrievalSet):
        metrics, ranks = ([o[name] for o in outcomes] for name in ("metrics", "first_rank"))
        return retrieval_errors(loaded.queries, [len(loaded.qrels[q]) for q in loaded.query_ids], metrics, ranks)
    labels = [json.loads(run.artifact.file("report.json").read_bytes())["labels"] for run in runs]
    if isinstance(loaded.test[0], WordExample):
        tags = [[own[n] for n in o["predicted"]] for own, o in zip(labels, outcomes, strict=True)]
        return entity_errors(loaded, tags, num_resamples=num_resamples, shown=shown)
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
        "label_pairs": label_pairs(pairs, len(predicted)),
        "by_length": [
            {"words": [int(low), int(high)], "examples": int(here.sum()), "accuracy": float(right_N[here].mean())}
            for low, high, here in quartiles(np.array([len(own) for own in words]))
        ],
        "by_unknown_words": [
            {"share": [float(low), float(high)], "examples": int(here.sum()), "accuracy": float(right_N[here].mean())}
            for low, high, here in quartiles(unknown_N)
        ],
    }
    if shown:
        wrong = [(e, guess) for e, guess in zip(splits.test, predicted[0], strict=True) if e.label != guess]
        analysis["examples"] = [
            {"text": e.text[:MOST_CHARACTERS], "gold": e.label, "predicted": guess}
            for e, guess in wrong[:MOST_EXAMPLES]
        ]
    return analysis


def retrieval_errors(
    queries: Sequence[str],
    num_relevant: Sequence[int],
    metrics: Sequence[NDArray[np.float64]],
    first_ranks: Sequence[NDArray[np.int64]],
) -> dict[str, Any]:
    """Return where the first relevant document was ranked, and metrics by words of the query and by its relevant documents.

    ``num_relevant`` has each query's number of relevant documents; ``metrics`` [N, 4] and ``first_ranks`` [N] are those of each
    seed. Counts of ranks are means over seeds.
    """
    ranks_SN = np.stack(first_ranks)
    num_seeds = len(ranks_SN)
    ranked, least = {}, 1
    for most, name in _RANKS:
        ranked[name] = int(((ranks_SN >= least) & (ranks_SN <= most)).sum()) / num_seeds
        least = most + 1
    ranked["not found"] = int((ranks_SN == 0).sum()) / num_seeds
    means_NM = np.mean(np.stack(metrics), axis=0)

    def figures(here_N: NDArray[np.bool_]) -> dict[str, float]:
        means = dict(zip(RETRIEVAL_METRICS, means_NM[here_N].mean(0).tolist(), strict=True))
        return {"queries": int(here_N.sum()), **means}

    lengths_N = np.array([len(query.split()) for query in queries])
    bins_N = np.array([next(name for least, name in _RELEVANT if count >= least) for count in num_relevant])
    return {
        "first_relevant_rank": ranked,
        "by_query_words": [
            {"words": [int(low), int(high)], **figures(here)} for low, high, here in quartiles(lengths_N)
        ],
        "by_relevant_documents": {
            name: figures(bins_N == name) for _, name in reversed(_RELEVANT) if (bins_N == name).any()
        },
    }
