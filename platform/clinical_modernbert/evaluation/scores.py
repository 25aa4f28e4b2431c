"""Outcomes of a run by example, and every metric as a function of weights on them: a bootstrap resample is a weight vector.

So that one formula gives the figure, its interval and the paired test. With all weights 1 the figures equal scikit-learn's,
seqeval's and trec_eval's (tests). Figures are shares between 0 and 1.

Legend: N examples, C classes, G groups.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from clinical_modernbert.statistics import Floats, bootstrap, paired_permutation, percentiles

Kind = Literal["classification", "entities", "retrieval"]
RETRIEVAL_METRICS = ("ndcg@10", "precision@10", "recall@10", "map")
# The figure by which a kind of task is summed up, tuned and compared.
MAIN_METRIC = {"classification": "f1_macro", "entities": "f1", "retrieval": "ndcg@10"}


@dataclass(frozen=True, slots=True)
class Scored:
    """What happened at each reported example."""

    kind: Kind
    groups_N: NDArray[np.int64]
    """Patient, abstract or document of each example: what is resampled."""
    values: dict[str, Floats]
    """classification: labels [N], probabilities [N, C]; entities: counts [N, 5] (right, predicted, gold spans; right, all words);
    retrieval: metrics [N, 4] in the order of ``RETRIEVAL_METRICS``."""

    @property
    def num_groups(self) -> int:
        """How many things are resampled."""
        return int(self.groups_N.max()) + 1


def group_numbers(groups: list[str]) -> NDArray[np.int64]:
    """Return 0 ... G-1 for group names."""
    return np.unique(np.array(groups), return_inverse=True)[1].astype(np.int64)


def measure(scored: Scored, weights_N: Floats | None = None) -> dict[str, float]:
    """Return every metric of the kind; ``weights_N`` counts each example so often."""
    weights = np.ones(len(scored.groups_N)) if weights_N is None else weights_N
    if scored.kind == "entities":
        right, predicted, gold, right_words, words = weights @ scored.values["counts"]
        return {
            "f1": _ratio(2 * right, predicted + gold),
            "precision": _ratio(right, predicted),
            "recall": _ratio(right, gold),
            "token_accuracy": _ratio(right_words, words),
        }
    if scored.kind == "retrieval":
        means = weights @ scored.values["metrics"] / max(weights.sum(), 1e-12)
        return {name: float(mean) for name, mean in zip(RETRIEVAL_METRICS, means, strict=True)}
    labels, probabilities = scored.values["labels"].astype(np.int64), scored.values["probabilities"]
    figures = _confusion_metrics(labels, probabilities, weights)
    if probabilities.shape[1] == 2:
        figures["auroc"] = auroc(labels, probabilities[:, 1], weights)
    return figures


def _confusion_metrics(labels_N: NDArray[np.int64], probabilities_NC: Floats, weights_N: Floats) -> dict[str, float]:
    num = probabilities_NC.shape[1]
    cells = labels_N * num + probabilities_NC.argmax(axis=1)
    confusion = np.bincount(cells, weights=weights_N, minlength=num * num).reshape(num, num)
    right, gold, predicted = np.diag(confusion), confusion.sum(1), confusion.sum(0)
    f1_C = np.divide(2 * right, gold + predicted, out=np.zeros(num), where=gold + predicted > 0)
    # Classes that occur on neither side are no classes of this sample, as scikit-learn has it.
    seen = gold + predicted > 0
    return {
        "accuracy": _ratio(right.sum(), confusion.sum()),
        "f1_macro": float(f1_C[seen].mean()),
        "f1_weighted": _ratio(float((f1_C * gold).sum()), gold.sum()),
    }


def auroc(labels_N: NDArray[np.int64], scores_N: Floats, weights_N: Floats) -> float:
    """Return the share of (positive, negative) pairs in the right order, ties counting half; NaN without one of the two."""
    order = np.argsort(scores_N, kind="stable")
    scores, labels, weights = scores_N[order], labels_N[order], weights_N[order]
    positive, negative = weights * (labels == 1), weights * (labels == 0)
    if not positive.sum() or not negative.sum():
        return float("nan")
    ties = np.concatenate([[0], np.cumsum(np.diff(scores) > 0)])
    positive_T, negative_T = np.bincount(ties, positive), np.bincount(ties, negative)
    below_T = np.cumsum(negative_T) - negative_T
    return float((positive_T * (below_T + negative_T / 2)).sum() / (positive.sum() * negative.sum()))


def interval(runs: list[Scored], metric: str, *, num_resamples: int, seed: int = 0) -> tuple[float, float, float]:
    """Return (mean over seeds, lower, upper) of a 95 % bootstrap interval over groups; all seeds share the resample."""

    def figure(weights_G: Floats) -> float:
        return float(np.mean([measure(run, weights_G[run.groups_N])[metric] for run in runs]))

    figures_R = bootstrap(figure, runs[0].num_groups, num_resamples=num_resamples, seed=seed)
    # A resample without one of two classes has no AUROC.
    low, high = np.nanpercentile(figures_R, [2.5, 97.5])
    return float(np.mean([measure(run)[metric] for run in runs])), float(low), float(high)


def paired_test(
    ours: list[Scored], other: list[Scored], metric: str, *, num_resamples: int, seed: int = 0
) -> tuple[float, float]:
    """Return (difference of the means over seeds, two-sided p) of a permutation test that swaps the sides group by group.

    Both must have been scored on the same examples with the same seeds in the same order; else ``ValueError``.
    """
    if len(ours) != len(other) or any(
        not np.array_equal(a.groups_N, b.groups_N) for a, b in zip(ours, other, strict=True)
    ):
        raise ValueError("a paired test needs the same examples and seeds on both sides")

    def difference(swapped_G: NDArray[np.bool_]) -> float:
        pairs = zip(ours, other, strict=True)
        mixed = [(_mixed(a, b, swapped_G), _mixed(b, a, swapped_G)) for a, b in pairs]
        return float(np.mean([measure(a)[metric] - measure(b)[metric] for a, b in mixed]))

    return paired_permutation(difference, ours[0].num_groups, num_resamples=num_resamples, seed=seed)


def _mixed(keep: Scored, take: Scored, swapped_G: NDArray[np.bool_]) -> Scored:
    swapped_N = swapped_G[keep.groups_N]
    values = {
        name: np.where(swapped_N.reshape(-1, *[1] * (array.ndim - 1)), take.values[name], array)
        for name, array in keep.values.items()
    }
    return Scored(keep.kind, keep.groups_N, values)


def calibration(runs: list[Scored], *, num_bins: int = 10, num_resamples: int, seed: int = 0) -> dict[str, object]:
    """Return Brier score and expected calibration error of the positive class (two classes) as means over seeds.

    Beside them are 95 % bootstrap intervals over groups, in which all seeds share the resample, and the reliability curve of all
    seeds together.
    """

    def figures(weights_G: Floats) -> Floats:
        return np.mean([_calibration(run, weights_G[run.groups_N], num_bins) for run in runs], axis=0)

    num_groups = runs[0].num_groups
    low_2, high_2 = percentiles(bootstrap(figures, num_groups, num_resamples=num_resamples, seed=seed))
    names = ("brier", "expected_calibration_error")
    return {
        **dict(zip(names, figures(np.ones(num_groups)).tolist(), strict=True)),
        "intervals": {name: [float(low_2[i]), float(high_2[i])] for i, name in enumerate(names)},
        "curve": _curve(runs, num_bins),
    }


def _calibration(scored: Scored, weights_N: Floats, num_bins: int) -> tuple[float, float]:
    labels, positive = scored.values["labels"], scored.values["probabilities"][:, 1]
    bins = _bins(positive, num_bins)
    gaps = np.bincount(bins, weights_N * (positive - labels), minlength=num_bins)
    total = weights_N.sum()
    return float((weights_N * (positive - labels) ** 2).sum() / total), float(np.abs(gaps).sum() / total)


def _curve(runs: list[Scored], num_bins: int) -> list[dict[str, float]]:
    labels = np.concatenate([run.values["labels"] for run in runs])
    positive = np.concatenate([run.values["probabilities"][:, 1] for run in runs])
    bins = _bins(positive, num_bins)
    points = []
    for number in np.unique(bins):
        here = bins == number
        count = int(here.sum()) // len(runs)
        points.append(
            {"predicted": float(positive[here].mean()), "observed": float(labels[here].mean()), "examples": count}
        )
    return points


def _bins(positive_N: Floats, num_bins: int) -> NDArray[np.int64]:
    return np.clip((positive_N * num_bins).astype(np.int64), 0, num_bins - 1)


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else 0.0
