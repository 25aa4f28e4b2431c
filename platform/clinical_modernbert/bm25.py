"""BM25: how well texts match by the words that they share, a rare word counting more. A baseline, and a finder of hard negatives.

Legend: Q queries, D documents, V words.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

# Anserini's and BEIR's parameters.
_K1, _B = 0.9, 0.4


def bm25(documents: Sequence[str]) -> Callable[[Sequence[str]], Any]:
    """Return a function from queries to their scores, a sparse [Q, D]; words have two letters or more."""
    from scipy.sparse import diags
    from sklearn.feature_extraction.text import CountVectorizer

    counter = CountVectorizer()
    counts = counter.fit_transform(documents).tocsr().astype(np.float64)
    num_words_D = np.asarray(counts.sum(axis=1)).ravel()
    having_V = np.bincount(counts.indices, minlength=counts.shape[1])
    idf_V = np.log1p((counts.shape[0] - having_V + 0.5) / (having_V + 0.5))
    norm_D = _K1 * (1 - _B + _B * num_words_D / max(num_words_D.mean(), 1e-9))
    # Of each count only its own cell changes, so the matrix stays sparse.
    counts.data = counts.data * (_K1 + 1) / (counts.data + np.repeat(norm_D, np.diff(counts.indptr)))
    weights_VD = (diags(idf_V) @ counts.T).tocsr()
    return lambda queries: counter.transform(queries) @ weights_VD
