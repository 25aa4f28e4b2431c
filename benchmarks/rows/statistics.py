"""Whether verdicts and intervals hold: how often equal things are called different, and how often intervals cover.

No time is measured. Outcomes are simulated with known truth: what a method does at an example depends on the example's group, on
the seed, and on both. Our own functions then judge them as they judge an evaluation or a sweep.

- ``same_encoder``: two draws of five seeds of one encoder, on 83 abstracts with 13 sentences each, are called different (accuracy
  and macro F1; the higher share). Seeds differ by 0.04 in accuracy, as those of a small undertrained encoder did.
- ``identical_arm``: an arm of a sweep is called better or worse, where five arms equal their baseline: losses of 400 documents,
  seeds 0.2 nats apart, three seeds.
- ``coverage``: a 95 % interval covers the figure expected of another seed on other groups: 300 documents with 8 examples each
  (accuracy, seeds 0.15 logits apart) and 98 patients with one each (AUROC, 0.2), five seeds; the lower share.
"""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from clinical_modernbert.evaluation.scores import Scored, interval, paired_test, resample
from clinical_modernbert.evaluation.tasks import text_labels
from clinical_modernbert.sweeps.comparison import compare_seeds, with_verdicts
from clinical_modernbert.sweeps.kinds import MASKED_METRICS
from clinical_modernbert.sweeps.scores import GroupScores

from benchmarks.harness import write_result

NUM_SEEDS = 5
SWEEP_SEEDS, NUM_ARMS = 3, 5
NUM_DRAWS = 400
TARGET = "same_encoder <= 0.06, identical_arm <= 0.05, coverage >= 0.93"


def score() -> str:
    """Return the closing line; the shares are also written below ``build/bench``."""
    shares = simulate(NUM_DRAWS)
    write_result({"row": "statistics", "draws": NUM_DRAWS, "target": TARGET, **shares}, Path("build/bench"))
    return "statistics " + " ".join(f"{name}={share:.3f}" for name, share in shares.items())


def simulate(num_draws: int, *, num_resamples: int = 100, seed: int = 0) -> dict[str, float]:
    """Return the three shares over ``num_draws`` draws."""
    rng = np.random.default_rng(seed)
    differ = np.array([_same_encoder(rng, num_resamples) for _ in range(num_draws)])
    called = np.array([_identical_arms(rng, num_resamples) for _ in range(num_draws)])
    covered = np.array([[_covers(rng, num_resamples, **case) for case in _CASES] for _ in range(num_draws)])
    return {
        "same_encoder": float(differ.mean(0).max()),
        "identical_arm": float(called.mean()),
        "coverage": float(covered.mean(0).min()),
    }


def outcomes(
    rng: np.random.Generator, labels_N: np.ndarray, groups_N: np.ndarray, easy_G: np.ndarray, *, seed_spread: float
) -> Scored:
    """Return one seed's outcomes: how far the right class is ahead depends on the group, on the seed and on the example."""
    num, num_groups = len(labels_N), len(easy_G)
    of_seed = rng.normal(0, seed_spread) + rng.normal(0, 0.3, num_groups)[groups_N]
    right_N = easy_G[groups_N] + of_seed + rng.logistic(0, 1, num) > 0
    positive_N = np.where(right_N == (labels_N == 1), 0.75, 0.25)
    return Scored(
        groups_N, {"labels": labels_N, "probabilities": np.stack([1 - positive_N, positive_N], 1)}, text_labels.measure
    )


def ranked(
    rng: np.random.Generator, labels_N: np.ndarray, groups_N: np.ndarray, easy_G: np.ndarray, *, seed_spread: float
) -> Scored:
    """Return one seed's probabilities of two classes that overlap; the seed moves the distance between them."""
    distance = 1 + rng.normal(0, seed_spread)
    logits_N = distance * labels_N + easy_G[groups_N] + rng.normal(0, 0.5, len(labels_N))
    positive_N = 1 / (1 + np.exp(-logits_N))
    return Scored(
        groups_N, {"labels": labels_N, "probabilities": np.stack([1 - positive_N, positive_N], 1)}, text_labels.measure
    )


_CASES: tuple[dict[str, Any], ...] = (
    {"draw": outcomes, "metric": "accuracy", "num_groups": 300, "size": 8, "seed_spread": 0.15},
    {"draw": ranked, "metric": "auroc", "num_groups": 98, "size": 1, "seed_spread": 0.2},
)


def _examples(rng: np.random.Generator, num_groups: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return labels [N], groups [N] and how easy each group is [G]."""
    labels_N = rng.integers(2, size=num_groups * size).astype(np.float64)
    labels_N[:2] = (0, 1)
    return labels_N, np.repeat(np.arange(num_groups), size), rng.normal(0.7, 0.8, num_groups)


def _same_encoder(rng: np.random.Generator, num_resamples: int) -> list[bool]:
    labels_N, groups_N, easy_G = _examples(rng, 83, 13)
    sides = [
        resample(
            [outcomes(rng, labels_N, groups_N, easy_G, seed_spread=0.2) for _ in range(NUM_SEEDS)],
            num_resamples=num_resamples,
        )
        for _ in range(2)
    ]
    return [paired_test(*sides, metric).p < 0.05 for metric in ("accuracy", "f1_macro")]


def _identical_arms(rng: np.random.Generator, num_resamples: int) -> float:
    """Return the share of the arms of one sweep that get a verdict."""
    hard_D = rng.normal(4, 1, 400)

    def scores() -> GroupScores:
        losses_D = hard_D + rng.normal(0, 0.2) + rng.normal(0, 0.1, 400)
        tokens_D = np.full(400, 10)
        return GroupScores(
            "mask", np.arange(400, dtype=np.uint64), tokens_D, dict.fromkeys(MASKED_METRICS, losses_D * 10)
        )

    baseline = [scores() for _ in range(SWEEP_SEEDS)]
    arms = {
        str(arm): compare_seeds(
            {str(seed): (scores(), baseline[seed]) for seed in range(SWEEP_SEEDS)}, resamples=num_resamples
        )["loss"]
        for arm in range(NUM_ARMS)
    }
    decided = with_verdicts(arms, higher_is_better=False).values()
    return sum(compared.verdict != "undecided" for compared in decided) / NUM_ARMS


def _covers(rng: np.random.Generator, num_resamples: int, **case: Any) -> bool:
    sizes = (case["num_groups"], case["size"])
    draw, metric, seed_spread = case["draw"], case["metric"], case["seed_spread"]
    labels_N, groups_N, easy_G = _examples(rng, *sizes)
    runs = [draw(rng, labels_N, groups_N, easy_G, seed_spread=seed_spread) for _ in range(NUM_SEEDS)]
    _, low, high = interval(resample(runs, num_resamples=num_resamples), metric)
    return bool(low <= _truth(draw, metric, seed_spread) <= high)


@cache
def _truth(draw: Any, metric: str, seed_spread: float) -> float:
    """Return the figure expected of any seed on any groups: the mean of many seeds, each on groups of its own."""
    rng = np.random.default_rng(1)
    return float(
        np.mean([draw(rng, *_examples(rng, 4000, 1), seed_spread=seed_spread).figures()[metric] for _ in range(400)])
    )
