"""The fit finds planted coefficients, and says how far it may be trusted."""

import numpy as np
import pytest
from clinical_modernbert.errors import ModelError
from clinical_modernbert.sweeps.scaling_fit import Runs, fit_scaling


def planted(noise: float, *, seed: int = 0) -> Runs:
    sizes, tokens = (a.ravel() for a in np.meshgrid([1e6, 4e6, 16e6, 64e6], [1e7, 4e7, 16e7, 64e7]))
    losses = 1.7 + 400 / sizes**0.35 + 900 / tokens**0.3
    return Runs(sizes, tokens, losses * np.exp(np.random.default_rng(seed).normal(0, noise, size=len(losses))))


def test_planted_coefficients_are_found() -> None:
    fit = fit_scaling(planted(1e-5), refits=20)
    found = {name: entry.value for name, entry in fit.coefficients.items()}
    assert found["E"] == pytest.approx(1.7, abs=0.02)
    assert found["alpha"] == pytest.approx(0.35, abs=0.02) and found["beta"] == pytest.approx(0.3, abs=0.02)
    assert fit.root_mean_square_error < 1e-3
    assert fit.trusted_growth == 64


def test_noisy_runs_are_trusted_less_far() -> None:
    assert (fit_scaling(planted(0.1), refits=10).trusted_growth or 1) < 64


def test_a_loss_that_is_no_number_is_refused() -> None:
    runs = planted(0.0)
    runs.losses_R[3] = np.inf
    with pytest.raises(ModelError, match="not a number"):
        fit_scaling(runs)


def test_too_few_runs_are_refused() -> None:
    runs = planted(0.0)
    with pytest.raises(ModelError, match="at least 2 model sizes"):
        fit_scaling(Runs(runs.parameters_R[::4], runs.tokens_R[::4], runs.losses_R[::4]))
