"""Calibration equals scikit-learn's, and is known for a constant and for a wrong model."""

from dataclasses import replace

import numpy as np
import pytest
from clinical_modernbert.evaluation.report.calibration import calibration
from clinical_modernbert.evaluation.scores import Scored
from clinical_modernbert.evaluation.tasks import text_labels
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve


def test_calibration_of_a_constant_and_of_a_wrong_model() -> None:
    labels = np.array([0.0, 1, 1, 1])
    constant = Scored(
        np.arange(4),
        {"labels": labels, "probabilities": np.tile([0.25, 0.75], (4, 1))},
        text_labels.measure,
    )
    assert calibration([constant], num_resamples=100).expected_calibration_error == pytest.approx(0.0)
    sure = Scored(
        np.arange(4), {"labels": 1 - labels, "probabilities": np.eye(2)[labels.astype(int)]}, text_labels.measure
    )
    wrong = calibration([sure], num_resamples=100)
    assert wrong.expected_calibration_error == pytest.approx(1.0)
    assert wrong.brier == pytest.approx(sk.brier_score_loss(1 - labels, labels))
    # Over two seeds the figures are means, and the interval holds them.
    both = calibration([constant, sure], num_resamples=100)
    low, high = both.intervals.expected_calibration_error
    assert both.expected_calibration_error == pytest.approx(0.5) and low <= 0.5 <= high


@pytest.mark.parametrize("seed", range(3))
def test_calibration_equals_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = {
        "labels": rng.integers(2, size=400).astype(float),
        "probabilities": rng.dirichlet([1, 1], size=400).round(2),
    }
    scored = Scored(np.arange(400) // 4, values, text_labels.measure)
    labels, positive = scored.values["labels"], scored.values["probabilities"][:, 1]
    found = calibration([scored], num_resamples=100)
    observed, predicted = calibration_curve(labels, positive - 1e-9 * (positive > 0), n_bins=10)
    # Ours cuts below the edge, scikit-learn's above it: rounded probabilities would fall apart, hence the hair.
    ours = calibration(
        [replace(scored, values=scored.values | {"probabilities": scored.values["probabilities"] - 1e-9})],
        num_resamples=100,
    )
    assert [p.observed for p in ours.curve] == pytest.approx(observed)
    assert [p.predicted for p in ours.curve] == pytest.approx(predicted, abs=1e-6)
    assert found.brier == pytest.approx(sk.brier_score_loss(labels, positive))
    low, high = found.intervals.brier
    assert low < found.brier < high
    assert sum(point.examples for point in found.curve) == 400
