"""Exact cosine search and the metrics of its rankings, as trec_eval computes them.

Legend: Q queries, D documents, W width.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clinical_modernbert.errors import ModelError
from clinical_modernbert.evaluation.results import Facts

_DEPTH = 1000  # documents that are ranked for each query
_BLOCK = 256  # queries at a time
# trec_eval's name -> the metric's name in reports
_TREC_EVAL = {"ndcg_cut_10": "ndcg@10", "P_10": "precision@10", "recall_10": "recall@10", "map": "map"}
METRICS = tuple(_TREC_EVAL.values())


Rankings = dict[str, dict[str, float]]
"""Query -> its best documents -> score."""


def cosines(queries_QW: NDArray[np.float32], documents_DW: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    """Yield the cosines [B, D] of a block of queries at a time; exact. ``ModelError`` if a vector is not finite."""
    for name, vectors in (("query", queries_QW), ("document", documents_DW)):
        wrong = int((~np.isfinite(vectors).all(axis=1)).sum())
        if wrong:
            raise ModelError(f"{wrong} of {len(vectors)} {name} vectors are not finite")
    queries, documents = unit(queries_QW), unit(documents_DW)
    for start in range(0, len(queries), _BLOCK):
        yield queries[start : start + _BLOCK] @ documents.T


def rank(
    scores: Iterable[NDArray[Any]], *, query_ids: Sequence[str], document_ids: Sequence[str], drop_identical_ids: bool
) -> Rankings:
    """Return the best 1,000 documents of each query from blocks of scores [B, D], in the order of ``query_ids``.

    ``drop_identical_ids`` leaves out a document with the query's own id, as BEIR does.
    """
    rankings: Rankings = {}
    names = iter(query_ids)
    # One more, in case the query's own document is left out.
    depth = min(_DEPTH + 1, len(document_ids))
    for scores_BD in scores:
        for scores_D in scores_BD:
            query = next(names)
            best = np.argpartition(-scores_D, depth - 1)[:depth]
            best = best[np.argsort(-scores_D[best], kind="stable")]
            kept = ((document_ids[d], float(scores_D[d])) for d in best.tolist())
            ranking = [(d, score) for d, score in kept if not (drop_identical_ids and d == query)]
            rankings[query] = dict(ranking[:_DEPTH])
    return rankings


def tied(rankings: Rankings) -> Facts:
    """Return the share of queries whose ten best documents have equal scores among them: their order is by id alone."""
    ten_best = [sorted(ranking.values(), reverse=True)[:11] for ranking in rankings.values()]
    count = sum(len(set(scores)) < len(scores) for scores in ten_best)
    return {"queries_with_tied_scores": f"{count} of {len(ten_best)}"} if count else {}


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the vectors scaled to length 1."""
    scaled: NDArray[np.float32] = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return scaled


def retrieval_metrics(
    qrels: dict[str, dict[str, int]], rankings: Rankings, query_ids: Sequence[str]
) -> NDArray[np.float64]:
    """Return [Q, 4] in the order of ``METRICS``, computed by trec_eval."""
    import pytrec_eval

    results = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut.10", "P.10", "recall.10", "map"}).evaluate(rankings)
    return np.array([[results[query][name] for name in _TREC_EVAL] for query in query_ids])


def first_ranks(qrels: dict[str, dict[str, int]], rankings: Rankings, query_ids: Sequence[str]) -> NDArray[np.int64]:
    """Return [Q]: the rank, from 1, of each query's first relevant document; 0 if none was ranked."""
    ranks = []
    for query in query_ids:
        # Of equal scores trec_eval puts the larger id first; the ranks must be those that its metrics saw.
        ranking = [(score, document) for document, score in rankings[query].items()]
        best = max((place for place in ranking if qrels[query].get(place[1], 0) > 0), default=None)
        ranks.append(0 if best is None else sum(place >= best for place in ranking))
    return np.array(ranks, dtype=np.int64)
