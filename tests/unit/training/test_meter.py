"""The count of operations follows the pairs that attention really sees."""

import numpy as np
import pytest
from clinical_modernbert.training.meter import attended_pairs, step_flops
from transformers import ModernBertConfig


@pytest.mark.parametrize("window", [1, 8, 64])
@pytest.mark.parametrize("causal", [False, True])
def test_pairs_are_those_within_the_window_inclusive(window: int, causal: bool) -> None:
    lengths_S = np.array([1, 2, 9, 65, 200])
    reach = range(0 if causal else -window, window + 1)
    by_hand = sum(i - j in reach for length in lengths_S for i in range(length) for j in range(length))
    assert attended_pairs(lengths_S, window, causal=causal) == by_hand


def test_a_step_counts_weights_pairs_and_the_head_on_masked_tokens_only() -> None:
    config = ModernBertConfig(
        hidden_size=8,
        intermediate_size=12,
        num_hidden_layers=4,
        num_attention_heads=2,
        vocab_size=64,
        local_attention=4,
    )
    assert sum(kind == "full_attention" for kind in config.layer_types) == 2
    lengths_S, masked = np.array([3, 10]), 5
    weights = 4 * (8 * 24 + 8 * 8 + 8 * 24 + 12 * 8)  # query, key, value; output; both halves of GeGLU; down
    pairs = 2 * (3 * 3 + 10 * 10) + 2 * attended_pairs(lengths_S, 2)
    expected = 6 * 13 * weights + 6 * masked * (8 * 8 + 8 * 64) + 12 * 8 * pairs
    assert step_flops(config, lengths_S, num_masked=masked) == expected
    fewer = 12 * 8 * (2 * (3 * 2 + 10 * 9) / 2 + 2 * (attended_pairs(lengths_S, 2) - 13) / 2)
    assert step_flops(config, lengths_S, num_masked=masked, causal=True) == expected - fewer
