"""Metrics of texts with any number of labels, and each example's share in them.

The metrics of ICD coding: F1 and AUROC, micro and macro, and precision among the first k (Mullenbach et al., 2018, CAML; Edin et
al., 2023). Macro figures are over the labels that a reported text has: a label without any cannot be found (Edin et al., 2023).

With thousands of labels a metric cannot be computed again in each of 1,000 resamples. So each metric M is kept as one value an
example whose mean is M: M plus N times the derivative of M by the example's weight. The weighted mean of these values is M with
weights to first order (the infinitesimal jackknife; DeLong et al., 1988, for AUROC), and exactly M with equal weights.

    M = 2 right / (predicted + gold); an example with (right, predicted, gold) = (1, 2, 1) of sums (30, 50, 50) and N = 20 has
    M = 0.6 and the value 0.6 + 20 * (2 * 1 - 0.6 * (2 + 1)) / 100 = 0.64

Legend: N examples, L labels, K labels in a block.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from clinical_modernbert.statistics import Floats

Bools = NDArray[np.bool_]
Scores = NDArray[np.float32]

PRECISION_AT = (5, 8, 15)
METRICS = ("f1_micro", "f1_macro", "auroc_micro", "auroc_macro", *(f"precision@{k}" for k in PRECISION_AT))

_BINS = 1000  # candidate thresholds: 0.001, 0.002, ...
_BLOCK = 256  # rows or labels at a time


def metrics_by_example(gold_NL: Bools, scores_NL: Scores, *, threshold: float) -> Floats:
    """Return [N, M] in the order of ``METRICS``; a column of NaN where a metric is not defined."""
    columns = [
        _f1_micro(gold_NL, scores_NL, threshold),
        _f1_macro(gold_NL, scores_NL, threshold),
        _auroc_micro(gold_NL, scores_NL),
        _auroc_macro(gold_NL, scores_NL),
        *(_precision_at(gold_NL, scores_NL, k) for k in PRECISION_AT),
    ]
    return np.stack(columns, axis=1)


def best_threshold(gold_NL: Bools, scores_NL: Scores) -> tuple[float, float]:
    """Return the threshold with the highest micro F1, of thousandths, and that F1. A score of at least the threshold counts.

    Of equal thresholds the lowest is returned.
    """
    positives_B, all_B = np.zeros(_BINS), np.zeros(_BINS)
    for rows in _blocks(len(gold_NL)):
        bins = np.minimum((scores_NL[rows].astype(np.float64) * _BINS).astype(np.int64), _BINS - 1)
        all_B += np.bincount(bins.ravel(), minlength=_BINS)
        positives_B += np.bincount(bins[gold_NL[rows]], minlength=_BINS)
    right_B, predicted_B = (np.cumsum(counts[::-1])[::-1] for counts in (positives_B, all_B))
    f1_B = 2 * right_B / np.maximum(predicted_B + positives_B.sum(), 1)
    best = int(f1_B[1:].argmax()) + 1
    return best / _BINS, float(f1_B[best])


def predictions(scores_NL: Scores, threshold: float) -> Bools:
    """Return which labels are predicted; in double precision, as ``best_threshold`` decided."""
    return (scores_NL.astype(np.float64) * _BINS).astype(np.int64) >= round(threshold * _BINS)


def _f1_micro(gold_NL: Bools, scores_NL: Scores, threshold: float) -> Floats:
    counts_N3 = np.zeros((len(gold_NL), 3))
    for rows in _blocks(len(gold_NL)):
        gold, predicted = gold_NL[rows], predictions(scores_NL[rows], threshold)
        counts_N3[rows] = np.stack([(gold & predicted).sum(1), predicted.sum(1), gold.sum(1)], axis=1)
    right, predicted_sum, gold_sum = counts_N3.sum(0)
    if not predicted_sum + gold_sum:
        return np.full(len(gold_NL), np.nan)
    f1 = 2 * right / (predicted_sum + gold_sum)
    derivative_N = (2 * counts_N3[:, 0] - f1 * (counts_N3[:, 1] + counts_N3[:, 2])) / (predicted_sum + gold_sum)
    values_N: Floats = f1 + len(gold_NL) * derivative_N
    return values_N


def _f1_macro(gold_NL: Bools, scores_NL: Scores, threshold: float) -> Floats:
    num_examples = len(gold_NL)
    total, derivative_N, num_labels = 0.0, np.zeros(num_examples), 0
    for labels in _blocks(gold_NL.shape[1]):
        gold_NK = gold_NL[:, labels]
        seen_K = gold_NK.any(0)
        gold_NK, predicted_NK = gold_NK[:, seen_K], predictions(scores_NL[:, labels][:, seen_K], threshold)
        both_NK = gold_NK & predicted_NK
        whole_K = predicted_NK.sum(0) + gold_NK.sum(0)
        f1_K = 2 * both_NK.sum(0) / whole_K
        derivative_N += both_NK @ (2 / whole_K) - (predicted_NK @ (f1_K / whole_K) + gold_NK @ (f1_K / whole_K))
        total, num_labels = total + f1_K.sum(), num_labels + int(seen_K.sum())
    if not num_labels:
        return np.full(num_examples, np.nan)
    values_N: Floats = (total + num_examples * derivative_N) / num_labels
    return values_N


def _auroc_macro(gold_NL: Bools, scores_NL: Scores) -> Floats:
    num_examples = len(gold_NL)
    total, derivative_N, num_labels = 0.0, np.zeros(num_examples), 0
    for label in range(gold_NL.shape[1]):
        gold_N, scores_N = gold_NL[:, label], scores_NL[:, label]
        if gold_N.all() or not gold_N.any():
            continue
        positives, negatives = np.sort(scores_N[gold_N]), np.sort(scores_N[~gold_N])
        # Of a positive the share of negatives below it, of a negative the share of positives above it; ties count half.
        placed_N = np.where(gold_N, _share_below(scores_N, negatives), 1 - _share_below(scores_N, positives))
        auroc = float(placed_N[gold_N].mean())
        derivative_N += (placed_N - auroc) / np.where(gold_N, len(positives), len(negatives))
        total, num_labels = total + auroc, num_labels + 1
    if not num_labels:
        return np.full(num_examples, np.nan)
    values_N: Floats = (total + num_examples * derivative_N) / num_labels
    return values_N


def _auroc_micro(gold_NL: Bools, scores_NL: Scores) -> Floats:
    """All pairs of text and label are ranked together. Only the positive ones are sorted, so memory stays flat."""
    num_examples = len(gold_NL)
    positives = np.sort(scores_NL[gold_NL])
    num_positives, num_negatives = len(positives), gold_NL.size - len(positives)
    if not num_positives or not num_negatives:
        return np.full(num_examples, np.nan)
    below_P, negative_placed_N = np.zeros(num_positives), np.zeros(num_examples)
    for rows in _blocks(num_examples):
        gold, scores = gold_NL[rows], scores_NL[rows]
        negatives = np.sort(scores[~gold])
        below_P += _share_below(positives, negatives) * len(negatives)
        above = np.where(gold, 0.0, 1 - _share_below(scores.ravel(), positives).reshape(scores.shape))
        negative_placed_N[rows] = above.sum(1)
    auroc = float(below_P.sum() / num_positives / num_negatives)
    placed_P = below_P / num_negatives
    positive_placed_N = np.zeros(num_examples)
    for rows in _blocks(num_examples):
        gold = gold_NL[rows]
        placed = placed_P[np.searchsorted(positives, scores_NL[rows][gold])]
        positive_placed_N[rows] = np.bincount(np.nonzero(gold)[0], placed, minlength=len(gold))
    gold_N = gold_NL.sum(1)
    derivative_N = (positive_placed_N - auroc * gold_N) / num_positives
    derivative_N += (negative_placed_N - auroc * (gold_NL.shape[1] - gold_N)) / num_negatives
    values_N: Floats = auroc + num_examples * derivative_N
    return values_N


def _share_below(scores: Scores, ordered: Scores) -> Floats:
    """Return the share of the ``ordered`` ones below each score, ties counting half."""
    low, high = np.searchsorted(ordered, scores, "left"), np.searchsorted(ordered, scores, "right")
    shares: Floats = (low + high) / (2 * max(len(ordered), 1))
    return shares


def _precision_at(gold_NL: Bools, scores_NL: Scores, k: int) -> Floats:
    """Return the share of right labels among the k with the highest scores, of k also where a text has fewer labels."""
    if gold_NL.shape[1] < k:
        return np.full(len(gold_NL), np.nan)
    found_N = np.zeros(len(gold_NL))
    for rows in _blocks(len(gold_NL)):
        best = np.argpartition(-scores_NL[rows], k - 1, axis=1)[:, :k]
        found_N[rows] = np.take_along_axis(gold_NL[rows], best, axis=1).mean(1)
    return found_N


def _blocks(count: int) -> Iterator[slice]:
    for start in range(0, count, _BLOCK):
        yield slice(start, start + _BLOCK)
