"""Whether a step's loss is acceptable, and which batches a rollback leaves out. Pure functions; the recipe sets the rule."""

import math
from statistics import median

from clinical_modernbert.recipe.training_run import StabilitySection
from clinical_modernbert.training.state import Skip


def verdict(*, loss: float, gradient_norm: float, recent: tuple[float, ...], section: StabilitySection) -> str | None:
    """Return the reason to refuse a step, or None. ``recent`` are the losses of the steps before it, oldest first."""
    if not math.isfinite(loss):
        return "the loss is not a number"
    if not math.isfinite(gradient_norm):
        return "the gradient is not a number"
    window = recent[-section.window_steps :]
    if section.spike_factor is None or len(window) < section.window_steps:
        return None
    usual = median(window)
    if loss > section.spike_factor * usual:
        return f"the loss {loss:.4f} is above {section.spike_factor:g} times its median {usual:.4f}"
    return None


def skipped_batches(step: int, skips: tuple[Skip, ...]) -> int:
    """Return how many batches were left out before ``step``."""
    return sum(count for first, count in skips if first <= step)
