"""Dense retrieval: rank all documents for each query by the cosine of their vectors. Zero-shot or fine-tuned; a group is a query.

Legend: Q queries.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from clinical_modernbert.evaluation.encoders import LocalEncoder
from clinical_modernbert.evaluation.report.schema import ErrorAnalysis
from clinical_modernbert.evaluation.results import Baseline, Facts, Outcome, StoredOutcome, Tuned
from clinical_modernbert.evaluation.scores import Scored
from clinical_modernbert.evaluation.tasks import trivial
from clinical_modernbert.evaluation.tasks.errors.retrieval import retrieval_errors
from clinical_modernbert.evaluation.tasks.ranking import (
    METRICS,
    Rankings,
    cosines,
    first_ranks,
    retrieval_metrics,
    tied,
)
from clinical_modernbert.evaluation.tasks.retrieval_sets import RetrievalSet, retrieval_set
from clinical_modernbert.evaluation.tasks.windows import encode_texts
from clinical_modernbert.recipe import RunRecipe
from clinical_modernbert.recipe.tasks import Mode, RetrievalTask
from clinical_modernbert.recipe.vocabulary import MANIFEST_KIND
from clinical_modernbert.statistics import Floats

if TYPE_CHECKING:
    from clinical_modernbert.evaluation.tuning import Problem

TITLE = "retrieval"
PLAIN = "Find the texts that belong to a given one."
MAIN_METRICS = ("ndcg@10",)
SHOWN = METRICS
VALUES = ("metrics",)


def paths(task: RetrievalTask) -> tuple[str | None, ...]:
    """Return the files of queries, documents and grades."""
    reported = (task.queries, task.corpus, task.qrels)
    return *reported, task.train_queries, task.train_qrels, task.development_queries, task.development_qrels


def trains(task: RetrievalTask, mode: Mode) -> bool:
    """A frozen encoder searches as it is; fine-tuning needs graded training queries, or halves of texts."""
    return mode == "fine_tuned" and (task.format == "halves" or task.train_queries is not None)


def sample_size(task: RetrievalTask) -> int | None:
    """Return the number of queries in the paper."""
    return task.paper_queries


def load(task: RetrievalTask, folder: Path) -> RetrievalSet:
    """Read queries, documents and grades."""
    return retrieval_set(task, folder)


def run(recipe: RunRecipe, encoder: LocalEncoder, data: RetrievalSet) -> Outcome:
    """Rank the documents for every reported query; a fine-tuning recipe trains on the training pairs first."""
    from clinical_modernbert.encoder import embed_ids
    from clinical_modernbert.evaluation.heads import load_base, mixed_precision
    from clinical_modernbert.evaluation.tasks.dense import contrastive_problem
    from clinical_modernbert.evaluation.tuning import tune_best_rate
    from clinical_modernbert.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(encoder.folder)
    base: Any = None
    budget = recipe.scaling.max_batch_tokens
    num_cut = 0

    def encode(texts: Sequence[str]) -> list[list[int]]:
        nonlocal num_cut
        ids, cut = encode_texts(tokenizer, texts, max_tokens=encoder.max_tokens)
        num_cut += cut
        return ids

    counts = {"queries": len(data.queries), "documents": len(data.documents)}
    tuned = None
    if recipe.mode == "fine_tuned":
        train, development = (
            list(
                zip(
                    encode([encoder.query_prompt + query for query, _ in pairs]),
                    encode([encoder.document_prompt + document for _, document in pairs]),
                    strict=True,
                )
            )
            for pairs in (data.train_pairs, data.development_pairs)
        )
        counts.update(train=len(train), development=len(development))

        def make() -> tuple[Any, "Problem"]:
            model = load_base(encoder, attention=recipe.scaling.attention)
            return model, contrastive_problem(
                model, train, development, pooling=encoder.pooling, max_batch_tokens=budget
            )

        found = tune_best_rate(make, section=recipe.tuning, seed=recipe.seed, max_batch_tokens=budget)
        base = found.model
        head: dict[str, str | int | list[str]] = {
            "kind": MANIFEST_KIND["embedding"],
            "pooling": encoder.pooling,
            "max_tokens": encoder.max_tokens,
        }
        tuned = Tuned(base, head, found.epochs, found.number, found.rate)
    if base is None:
        base = load_base(encoder, attention=recipe.scaling.attention)
    with mixed_precision():
        queries, documents = (
            embed_ids(base, encode([prompt + text for text in texts]), pooling=encoder.pooling, max_batch_tokens=budget)
            for prompt, texts in ((encoder.query_prompt, data.queries), (encoder.document_prompt, data.documents))
        )
    facts: Facts = {"texts_cut_to_the_limit": num_cut} if num_cut else {}
    rankings = data.ranked(cosines(queries, documents))
    ranks = first_ranks(data.qrels, rankings, data.query_ids)
    facts |= tied(rankings)
    return Outcome(_scored(data, rankings), counts, facts, extra={"first_rank": ranks}, tuned=tuned)


def _scored(data: RetrievalSet, rankings: Rankings) -> Scored:
    metrics = retrieval_metrics(data.qrels, rankings, data.query_ids)
    return Scored(np.arange(len(metrics)), {"metrics": metrics}, measure)


def baselines(data: RetrievalSet) -> list[Baseline]:
    """Return BM25 and the cosine of TF-IDF vectors."""
    methods = (
        ("BM25", "k1 = 0.9, b = 0.4, words of two letters and more", trivial.bm25_scores),
        ("TF-IDF cosine", "logarithmic counts, fitted on the documents", trivial.tfidf_scores),
    )
    return [
        Baseline(name, method, _scored(data, data.ranked(trivial.blocks(scores(data.queries, data.documents)))))
        for name, method, scores in methods
    ]


def measure(values: dict[str, Floats], weights_N: Floats) -> dict[str, float]:
    """Return the means over queries. ``values``: metrics [Q, 4] in the order of ``METRICS``."""
    means = weights_N @ values["metrics"] / max(weights_N.sum(), 1e-12)
    return {name: float(mean) for name, mean in zip(METRICS, means, strict=True)}


def errors(data: RetrievalSet, outcomes: Sequence[StoredOutcome], *, num_resamples: int, shown: bool) -> ErrorAnalysis:
    """Return ranks of the first relevant document, and metrics by query; quotes nothing, and uses no resamples."""
    num_relevant = [len(data.qrels[query]) for query in data.query_ids]
    metrics, ranks = ([outcome.arrays[name] for outcome in outcomes] for name in ("metrics", "first_rank"))
    return retrieval_errors(data.queries, num_relevant, metrics, ranks)
