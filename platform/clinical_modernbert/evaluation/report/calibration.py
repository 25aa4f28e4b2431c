"""Calibration of the positive class, where there are two classes. An example with a label below 0 is not known, and left out.

Legend: N examples.
"""

import numpy as np
from numpy.typing import NDArray

from clinical_modernbert.evaluation.report.schema import Calibration, CalibrationIntervals, CurvePoint
from clinical_modernbert.evaluation.scores import Scored, interval, resample
from clinical_modernbert.statistics import Floats

_NUM_BINS = 10


def calibration(runs: list[Scored], *, num_resamples: int) -> Calibration:
    """Return Brier score and expected calibration error as means over seeds, and the reliability curve of all seeds together.

    The 95 % intervals are over seeds and groups, as for the metrics.
    """
    runs = [_known(run) for run in runs]
    found = resample(runs, num_resamples=num_resamples)
    brier, *of_brier = interval(found, "brier")
    error, *of_error = interval(found, "expected_calibration_error")
    return Calibration(
        brier=brier,
        expected_calibration_error=error,
        intervals=CalibrationIntervals(
            brier=(of_brier[0], of_brier[1]), expected_calibration_error=(of_error[0], of_error[1])
        ),
        curve=_curve(runs),
    )


def _known(run: Scored) -> Scored:
    known_N = run.values["labels"] >= 0
    values = {name: run.values[name][known_N] for name in ("labels", "probabilities")}
    return Scored(np.unique(run.groups_N[known_N], return_inverse=True)[1], values, _measure)


def _measure(values: dict[str, Floats], weights_N: Floats) -> dict[str, float]:
    labels_N, positive_N = values["labels"], values["probabilities"][:, 1]
    gaps = np.bincount(_bins(positive_N), weights_N * (positive_N - labels_N), minlength=_NUM_BINS)
    total = weights_N.sum()
    return {
        "brier": float((weights_N * (positive_N - labels_N) ** 2).sum() / total),
        "expected_calibration_error": float(np.abs(gaps).sum() / total),
    }


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
