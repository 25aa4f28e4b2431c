"""The throughput model against figures worked out by hand."""

import dataclasses

import pytest
from transformers import ModernBertConfig

from benchmarks.estimate import Cluster, estimate

BASE = ModernBertConfig()
SIZE = 149_655_232
RUN = {"num_tokens": 13e9, "segment_length": 128, "batch_tokens": 90_112, "mask_rate": 0.3, "num_parameters": SIZE}


def test_operations_a_token_are_those_of_the_shapes() -> None:
    width, linear = 768, 22 * (4 * 768 * 768 + 3 * 768 * 1152)
    near = (128 + 2 * (64 * 128 - 64 * 65 // 2)) / 128  # keys within 64 tokens, mean over a segment of 128
    by_hand = 6 * linear + 12 * width * (8 * 128 + 14 * near) + 0.3 * 6 * (width * width + width * 50_368)
    assert estimate(BASE, Cluster(1), **RUN).flops_per_token == pytest.approx(by_hand, rel=1e-9)


def test_one_node_exchanges_nothing_and_time_is_operations_over_their_rate() -> None:
    found = estimate(BASE, Cluster(1, utilisation=0.5), **RUN)
    assert found.exchange_s == 0
    assert found.tokens_per_second == pytest.approx(8 * 312e12 * 0.5 / found.flops_per_token)
    assert found.days == pytest.approx(13e9 / found.tokens_per_second / 86_400)
    assert found.dollars == pytest.approx(found.days * 24 * 8 * 2.0)


def test_a_ring_between_two_nodes_sends_the_gradient_once() -> None:
    found = estimate(BASE, Cluster(2), **RUN)
    assert found.exchange_s == pytest.approx(SIZE * 4 / 12.5e9)
    assert found.tokens_per_second == pytest.approx(90_112 / (found.compute_s + found.exchange_s))


def test_larger_batches_hide_the_exchange_and_nodes_beyond_the_batch_do_not_pay() -> None:
    small, large = (estimate(BASE, Cluster(8), **{**RUN, "batch_tokens": n}) for n in (90_112, 4_718_592))
    assert small.exchange_s / small.compute_s > 1 > 0.25 > large.exchange_s / large.compute_s
    assert large.days < small.days
    slow = dataclasses.replace(Cluster(8), node_link_bytes_per_s=1.25e9)
    assert estimate(BASE, slow, **RUN).days > small.days
