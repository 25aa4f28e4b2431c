"""Floating-point operations of a step that serve real tokens: what MFU and equal compute are stated in.

Forward and backward together: 6 for each weight of a linear layer and token, 12 for each pair of tokens that attention sees and
channel, the prediction head on masked tokens only. Padding, recomputation, norms and the optimizer don't count
(the convention of Chowdhery et al. 2022, arXiv 2204.02311, appendix B, with the pairs counted as they are).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def step_flops(config: Any, lengths_S: NDArray[np.int64], *, num_masked: int) -> float:
    """Return the operations of one training step of a ModernBERT.

    ``config`` is transformers' ModernBertConfig, ``lengths_S`` the tokens of each segment, [CLS] and [SEP] included.
    """
    width, inner = config.hidden_size, config.intermediate_size
    num_tokens = int(lengths_S.sum())
    linear = 6 * num_tokens * config.num_hidden_layers * (4 * width * width + 3 * width * inner)
    head = 6 * num_masked * (width * width + width * config.vocab_size)
    num_global = sum(kind == "full_attention" for kind in config.layer_types)
    num_local = config.num_hidden_layers - num_global
    pairs = num_global * int((lengths_S**2).sum()) + num_local * local_pairs(lengths_S, config.sliding_window)
    return float(linear + head + 12 * width * pairs)


def local_pairs(lengths_S: NDArray[np.int64], window: int) -> int:
    """Return how many pairs lie within ``window`` tokens of each other, inclusive, in segments of these lengths."""
    # Each side of the diagonal has length-1, length-2, ... pairs at distance 1, 2, ..., up to the window.
    reach_S = np.minimum(lengths_S - 1, window)
    one_side_S = reach_S * lengths_S - reach_S * (reach_S + 1) // 2
    return int((lengths_S + 2 * one_side_S).sum())
