"""Calibration of the positive class, where there are two classes.

Legend: N examples, G groups.
"""

import numpy as np
from numpy.typing import NDArray

from clinical_modernbert.evaluation.report.schema import Calibration, CalibrationIntervals, CurvePoint
from clinical_modernbert.evaluation.scores import Scored
from clinical_modernbert.statistics import Floats, bootstrap, percentiles

_NUM_BINS = 10


def calibration(runs: list[Scored], *, num_resamples: int, seed: int = 0) -> Calibration:
    """Return Brier score and expected calibration error as means over seeds, and the reliability curve of all seeds together.

    The 95 % intervals are bootstrapped over groups; all seeds share a resample.
    """

    def figures(weights_G: Floats) -> Floats:
        return np.mean([_brier_and_error(run, weights_G[run.groups_N]) for run in runs], axis=0)

    num_groups = runs[0].num_groups
    low_2, high_2 = percentiles(bootstrap(figures, num_groups, num_resamples=num_resamples, seed=seed)).tolist()
    brier, error = figures(np.ones(num_groups)).tolist()
    return Calibration(
        brier=brier,
        expected_calibration_error=error,
        intervals=CalibrationIntervals(brier=(low_2[0], high_2[0]), expected_calibration_error=(low_2[1], high_2[1])),
        curve=_curve(runs),
    )


def _brier_and_error(scored: Scored, weights_N: Floats) -> tuple[float, float]:
    labels_N, positive_N = scored.values["labels"], scored.values["probabilities"][:, 1]
    gaps = np.bincount(_bins(positive_N), weights_N * (positive_N - labels_N), minlength=_NUM_BINS)
    total = weights_N.sum()
    return float((weights_N * (positive_N - labels_N) ** 2).sum() / total), float(np.abs(gaps).sum() / total)


def _curve(runs: list[Scored]) -> list[CurvePoint]:
    labels_N = np.concatenate([run.values["labels"] for run in runs])
    positive_N = np.concatenate([run.values["probabilities"][:, 1] for run in runs])
    bins_N = _bins(positive_N)
    in_bins = (bins_N == number for number in np.unique(bins_N))
    return [
        CurvePoint(
            predicted=float(positive_N[chosen_N].mean()),
            observed=float(labels_N[chosen_N].mean()),
            examples=int(chosen_N.sum()) // len(runs),
        )
        for chosen_N in in_bins
    ]


def _bins(positive_N: Floats) -> NDArray[np.int64]:
    return np.clip((positive_N * _NUM_BINS).astype(np.int64), 0, _NUM_BINS - 1)
