"""Exact cosine search and the metrics of its rankings, as trec_eval computes them.

Legend: Q queries, D documents, W width.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_DEPTH = 1000  # documents that are ranked for each query
_BLOCK = 256  # queries at a time
# trec_eval's name -> the metric's name in reports
_TREC_EVAL = {"ndcg_cut_10": "ndcg@10", "P_10": "precision@10", "recall_10": "recall@10", "map": "map"}
METRICS = tuple(_TREC_EVAL.values())


def search(
    queries_QW: NDArray[np.float32],
    documents_DW: NDArray[np.float32],
    *,
    query_ids: Sequence[str],
    document_ids: Sequence[str],
) -> dict[str, dict[str, float]]:
    """Return the nearest 1,000 documents of each query with their cosine; exact."""
    queries, documents = unit(queries_QW), unit(documents_DW)
    rankings: dict[str, dict[str, float]] = {}
    depth = min(_DEPTH, len(documents))
    for start in range(0, len(queries), _BLOCK):
        scores = queries[start : start + _BLOCK] @ documents.T
        top = np.argpartition(-scores, depth - 1, axis=1)[:, :depth]
        for row, columns in enumerate(top):
            query = query_ids[start + row]
            rankings[query] = {document_ids[c]: float(scores[row, c]) for c in columns.tolist()}
    return rankings


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the vectors scaled to length 1."""
    scaled: NDArray[np.float32] = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return scaled


def retrieval_metrics(
    qrels: dict[str, dict[str, int]], rankings: dict[str, dict[str, float]], query_ids: Sequence[str]
) -> NDArray[np.float64]:
    """Return [Q, 4] in the order of ``METRICS``, computed by trec_eval."""
    import pytrec_eval

    results = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut.10", "P.10", "recall.10", "map"}).evaluate(rankings)
    return np.array([[results[query][name] for name in _TREC_EVAL] for query in query_ids])


def first_ranks(
    qrels: dict[str, dict[str, int]], rankings: dict[str, dict[str, float]], query_ids: Sequence[str]
) -> NDArray[np.int64]:
    """Return [Q]: the rank, from 1, of each query's first relevant document; 0 if none was ranked."""
    ranks = []
    for query in query_ids:
        # Of equal scores trec_eval puts the larger id first; the ranks must be those that its metrics saw.
        ranking = [(score, document) for document, score in rankings[query].items()]
        best = max((place for place in ranking if qrels[query].get(place[1], 0) > 0), default=None)
        ranks.append(0 if best is None else sum(place >= best for place in ranking))
    return np.array(ranks, dtype=np.int64)
