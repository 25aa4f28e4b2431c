"""When a run is off the rails, and which batches a rollback leaves out. Pure functions; the rule stands in the recipe."""

import math
from statistics import median
from typing import Any

from clinical_modernbert.recipe.pretrain import StabilitySection

Skip = tuple[int, int]
"""``(first step, batches)``: from this step on, training is so many batches further in the order of the rows."""


def verdict(point: dict[str, Any], recent: list[float], section: StabilitySection) -> str | None:
    """Return what is wrong with a step, or None. ``recent`` are the losses of the steps before it, oldest first."""
    if not math.isfinite(point["loss"]):
        return "the loss is not a number"
    if not math.isfinite(point["gradient_norm"]):
        return "the gradient is not a number"
    window = recent[-section.window_steps :]
    if section.spike_factor is None or len(window) < section.window_steps:
        return None
    usual = median(window)
    if point["loss"] > section.spike_factor * usual:
        return f"the loss {point['loss']:.4f} is above {section.spike_factor:g} times its median {usual:.4f}"
    return None


def skipped_batches(step: int, skips: tuple[Skip, ...]) -> int:
    """Return how many batches were left out before ``step``."""
    return sum(count for first, count in skips if first <= step)
