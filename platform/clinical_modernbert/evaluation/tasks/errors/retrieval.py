"""Where retrieval goes wrong: at which rank it has the first relevant document, and for which queries.

Legend: S seeds, N reported queries, M metrics.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from clinical_modernbert.evaluation.report.schema import ErrorAnalysis, QueryBucket, RetrievalFigures
from clinical_modernbert.evaluation.tasks.errors.buckets import quartiles
from clinical_modernbert.evaluation.tasks.ranking import METRICS

# Rank of the first relevant document: (at most, name); 0 is beyond the depth of the search.
_RANKS = ((1, "1"), (10, "2 to 10"), (100, "11 to 100"), (1000, "101 to 1,000"))
# How many documents answer a query: (at least, name). With more than 10 recall@10 cannot reach 1.
_RELEVANT = ((11, "11 and more"), (6, "6 to 10"), (2, "2 to 5"), (1, "1"))


def retrieval_errors(
    queries: Sequence[str],
    num_relevant: Sequence[int],
    metrics: Sequence[NDArray[np.float64]],
    first_ranks: Sequence[NDArray[np.int64]],
) -> ErrorAnalysis:
    """Return the ranks of the first relevant document, and metrics by words of the query and by its relevant documents.

    ``num_relevant`` has each query's number of relevant documents; ``metrics`` [N, 4] and ``first_ranks`` [N] are those of each
    seed. Counts of ranks are means over seeds.
    """
    ranks_SN = np.stack(first_ranks)
    num_seeds = len(ranks_SN)
    counts, least = {}, 1
    for most, name in _RANKS:
        counts[name] = int(((ranks_SN >= least) & (ranks_SN <= most)).sum()) / num_seeds
        least = most + 1
    counts["not found"] = int((ranks_SN == 0).sum()) / num_seeds
    means_NM = np.mean(np.stack(metrics), axis=0)

    def figures(chosen_N: NDArray[np.bool_]) -> RetrievalFigures:
        means = dict(zip(METRICS, means_NM[chosen_N].mean(0).tolist(), strict=True))
        return RetrievalFigures.model_validate({"queries": int(chosen_N.sum()), **means})

    lengths_N = np.array([len(query.split()) for query in queries])
    bins_N = np.array([next(name for least, name in _RELEVANT if count >= least) for count in num_relevant])
    return ErrorAnalysis(
        first_relevant_rank=counts,
        by_query_words=[
            QueryBucket(words=(int(low), int(high)), **dict(figures(chosen_N)))
            for low, high, chosen_N in quartiles(lengths_N)
        ],
        by_relevant_documents={
            name: figures(bins_N == name) for _, name in reversed(_RELEVANT) if (bins_N == name).any()
        },
    )
