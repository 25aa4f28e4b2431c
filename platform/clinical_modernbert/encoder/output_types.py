"""Vectors in the type in which they are stored or sent."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from clinical_modernbert.recipe.vocabulary import OutputType


def as_output(vectors_ND: NDArray[np.float32], output_type: OutputType) -> NDArray[Any]:
    """Return vectors in the type that was asked for, in little-endian order."""
    if output_type == "float16":
        return vectors_ND.astype("<f2")
    if output_type == "int8":
        largest_N1 = np.maximum(np.abs(vectors_ND).max(1, keepdims=True), 1e-12)
        return np.rint(vectors_ND * (127 / largest_N1)).astype(np.int8)
    if output_type == "binary":
        return np.packbits(vectors_ND > 0, axis=1)
    return vectors_ND.astype("<f4", copy=False)
