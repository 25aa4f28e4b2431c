"""Vectors of code descriptions: by an encoder, by the same encoder untrained, by shared words; and their places on a map.

Legend: N texts, D width.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from clinical_modernbert.encoder import Encoder
from clinical_modernbert.evaluation.tasks.windows import encode_texts
from clinical_modernbert.recipe.vocabulary import Pooling


def encoder_vectors(
    encoder: Encoder, texts: Sequence[str], *, pooling: Pooling, max_batch_tokens: int, max_tokens: int | None = None
) -> NDArray[np.float32]:
    """Return [N, D], not normalised; texts are cut to ``max_tokens``, by default the model's limit."""
    ids, _ = encode_texts(encoder.tokenizer, texts, max_tokens=max_tokens or encoder.max_tokens)
    return encoder.embed(ids, pooling=pooling, normalize=False, max_batch_tokens=max_batch_tokens)


def untrained(encoder: Encoder, *, seed: int) -> Encoder:
    """Return the encoder's architecture with weights drawn from ``seed``: what tokenizer and shape alone give."""
    model = encoder.model
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return replace(encoder, model=type(model)(model.config).to(model.device).eval())


def text_vectors(texts: Sequence[str]) -> NDArray[np.float32]:
    """Return TF-IDF vectors reduced to 256 dimensions: what shared words alone give."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    matrix = TfidfVectorizer(sublinear_tf=True).fit_transform(texts)
    components = min(256, min(matrix.shape) - 1)
    reduced: NDArray[np.float32] = TruncatedSVD(components, random_state=0).fit_transform(matrix).astype(np.float32)
    return reduced


def project(
    vectors_ND: NDArray[np.float32], *, perplexity: float, num_iterations: int, seed: int, num_cpus: int
) -> NDArray[np.float32]:
    """Return places on a map [N, 2] by t-SNE (openTSNE) on cosine distances, started from the principal components.

    Neighbours and figures are never taken from a map.
    """
    from openTSNE import TSNE

    bar = tqdm(total=num_iterations, desc="t-SNE", unit="iteration")

    def advance(iteration: int, error: float, embedding: object) -> None:
        bar.update(iteration - bar.n if iteration > bar.n else 0)

    tsne = TSNE(
        perplexity=min(perplexity, (len(vectors_ND) - 1) / 3),
        metric="cosine",
        initialization="pca",
        n_iter=num_iterations,
        n_jobs=num_cpus,
        random_state=seed,
        callbacks=advance,
        callbacks_every_iters=50,
    )
    projected: Any = tsne.fit(vectors_ND)
    bar.close()
    return np.asarray(projected, dtype=np.float32)
