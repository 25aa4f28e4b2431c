"""t-SNE: vectors to two dimensions, with a bar. Neighbours and figures are never taken from here."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm


def project(
    vectors_ND: NDArray[np.float32], *, perplexity: float, num_iterations: int, seed: int, num_cpus: int
) -> NDArray[np.float32]:
    """Return [N, 2] by openTSNE on cosine distances, from the principal components on."""
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
