"""Fit of the loss over parameters and tokens, L = E + A / N^a + B / D^b, with the range in which it can be trusted.

The form is that of Hoffmann et al. (2022, arXiv 2203.15556, section 3.3), fitted in logarithms with their Huber loss from a grid
of starts. Intervals come from refitting resampled runs.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from clinical_modernbert.errors import ModelError
from clinical_modernbert.statistics import usable_resamples
from clinical_modernbert.sweeps.results import Coefficient, Extrapolation, Fit, LargestRun

_NAMES = ("E", "A", "alpha", "B", "beta")
_HUBER = 1e-3
REFITS = 200
# Extrapolations at which the width of the fit's interval is measured.
_GROWTH = (2, 4, 8, 16, 32, 64)


@dataclass(frozen=True, slots=True)
class Runs:
    """The runs of a scaling sweep; parallel arrays."""

    parameters_R: NDArray[np.float64]
    """Parameters without the token embedding, as in Kaplan et al. (2020, arXiv 2001.08361)."""
    tokens_R: NDArray[np.float64]
    """Training tokens."""
    losses_R: NDArray[np.float64]
    """Held-out loss, nats a token."""

    def sample(self, indices: NDArray[np.int64]) -> "Runs":
        """Return the runs at ``indices``."""
        return Runs(self.parameters_R[indices], self.tokens_R[indices], self.losses_R[indices])

    @property
    def num_sizes(self) -> int:
        """Number of different model sizes."""
        return len(np.unique(self.parameters_R))

    @property
    def num_budgets(self) -> int:
        """Number of different token counts."""
        return len(np.unique(self.tokens_R))

    @property
    def can_be_fitted(self) -> bool:
        """Whether both exponents are determined: at least two sizes and two token counts."""
        return self.num_sizes > 1 and self.num_budgets > 1


def fit_scaling(runs: Runs, *, refits: int = REFITS, seed: int = 0) -> Fit:
    """Return the fit over all runs; intervals come from ``refits`` fits of resampled runs."""
    if not runs.can_be_fitted or len(runs.losses_R) <= len(_NAMES):
        raise ModelError(
            f"comparison.fit needs more runs than its 5 coefficients over at least 2 model sizes and 2 token counts, "
            f"this sweep has {len(runs.losses_R)} finished runs of {runs.num_sizes} sizes and {runs.num_budgets} token counts"
        )
    if not np.isfinite(runs.losses_R).all():
        raise ModelError("comparison.fit: the held-out loss of a finished run is not a number")
    best = _fit(runs, starts=_starts(runs))
    refitted_FC = np.stack(
        [
            _fit(runs.sample(indices), starts=[best])
            for indices in usable_resamples(
                len(runs.losses_R),
                num_resamples=refits,
                seed=seed,
                usable=lambda indices: runs.sample(indices).can_be_fitted,
            )
        ]
    )
    low_C, high_C = np.quantile(_readable(refitted_FC), [0.025, 0.975], axis=0)
    parameters, tokens = float(runs.parameters_R.max()), float(runs.tokens_R.max())
    largest = LargestRun(parameters, tokens, float(_terms(best, parameters, tokens).sum()))
    extrapolation = _extrapolate(best, refitted_FC, largest)
    errors_R = _terms(best, runs.parameters_R, runs.tokens_R).sum(0) - runs.losses_R
    return Fit(
        form="L = E + A / N^alpha + B / D^beta",
        coefficients={
            name: Coefficient(float(value), float(low), float(high))
            for name, value, low, high in zip(_NAMES, _readable(best[None])[0], low_C, high_C, strict=True)
        },
        largest_run=largest,
        root_mean_square_error=float(np.sqrt(np.mean(errors_R**2))),
        extrapolation=extrapolation,
        trusted_growth=_trusted_growth(extrapolation, largest),
    )


def _extrapolate(
    best: NDArray[np.float64], refitted_FC: NDArray[np.float64], largest: LargestRun
) -> list[Extrapolation]:
    points = []
    for growth in _GROWTH:
        grown = largest.parameters * growth, largest.tokens * growth
        low, high = np.quantile([_terms(c, *grown).sum() for c in refitted_FC], [0.025, 0.975])
        points.append(Extrapolation(growth, float(_terms(best, *grown).sum()), float(low), float(high)))
    return points


def _trusted_growth(extrapolation: list[Extrapolation], largest: LargestRun) -> int | None:
    trusted, before = None, largest.loss
    for point in extrapolation:
        if point.high - point.low > before - point.loss:
            break
        trusted, before = point.growth, point.loss
    return trusted


def _starts(runs: Runs) -> list[NDArray[np.float64]]:
    lowest = float(runs.losses_R.min())
    grid = product((0.3, 0.8), (0.2, 0.5, 1.0), (0.2, 0.5, 1.0))
    size, tokens = np.log(np.median(runs.parameters_R)), np.log(np.median(runs.tokens_R))
    rest = np.log(max(float(np.median(runs.losses_R)) - lowest, 0.05) + 0.1 * lowest)
    return [
        np.array([np.log(share * lowest), rest + alpha * size, alpha, rest + beta * tokens, beta])
        for share, alpha, beta in grid
    ]


def _fit(runs: Runs, *, starts: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    log_losses_R = np.log(runs.losses_R)

    def residuals(coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.log(_terms(coefficients, runs.parameters_R, runs.tokens_R).sum(0)) - log_losses_R)

    def jacobian(coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
        floor, of_size, of_tokens = _terms(coefficients, runs.parameters_R, runs.tokens_R)
        columns = (
            floor,
            of_size,
            -of_size * np.log(runs.parameters_R),
            of_tokens,
            -of_tokens * np.log(runs.tokens_R),
        )
        return np.stack(columns, axis=1) / (floor + of_size + of_tokens)[:, None]

    # The exponents stay positive: more parameters or tokens never predict a higher loss.
    bounds = ([-20.0, -20.0, 0.0, -20.0, 0.0], [5.0, 60.0, 3.0, 60.0, 3.0])
    solutions = [
        least_squares(
            residuals, np.clip(start, *np.array(bounds)), jac=jacobian, bounds=bounds, loss="huber", f_scale=_HUBER
        )
        for start in starts
    ]
    return np.asarray(min(solutions, key=lambda solution: float(solution.cost)).x)


def _terms(
    coefficients: NDArray[np.float64], parameters: NDArray[np.float64] | float, tokens: NDArray[np.float64] | float
) -> NDArray[np.float64]:
    """Return E, A / N^alpha and B / D^beta, stacked; their sum is the loss."""
    log_e, log_a, alpha, log_b, beta = coefficients
    of_size = np.exp(log_a - alpha * np.log(parameters))
    return np.stack([np.full_like(of_size, np.exp(log_e)), of_size, np.exp(log_b - beta * np.log(tokens))])


def _readable(coefficients_FC: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return E, A, alpha, B, beta from their logarithms where they were fitted as such."""
    readable = coefficients_FC.copy()
    readable[:, [0, 1, 3]] = np.exp(readable[:, [0, 1, 3]])
    return readable
