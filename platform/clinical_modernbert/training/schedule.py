"""The learning rate as a function of the step: linear warm-up, then the schedule's shape."""

import math

from clinical_modernbert.recipe.pretrain import OptimizerSection, Schedule
from clinical_modernbert.training.phases import Phase


def learning_rate(step: int, *, phases: tuple[Phase, ...], section: OptimizerSection) -> float:
    """Return the learning rate of ``step``: by its phase's schedule if phases have schedules, else by the run's."""
    for phase in phases:
        own = phase.section
        if own.schedule is not None and phase.first_step <= step < phase.end_step:
            peak = own.learning_rate or section.learning_rate
            return peak * _shape(
                step - phase.first_step,
                num_steps=phase.num_steps,
                schedule=own.schedule,
                warmup_fraction=own.warmup_fraction,
                final_fraction=own.final_fraction,
            )
    return section.learning_rate * _shape(
        step,
        num_steps=phases[-1].end_step,
        schedule=section.schedule,
        warmup_fraction=section.warmup_fraction,
        final_fraction=section.final_fraction,
        decay_fraction=section.decay_fraction,
    )


def _shape(
    step: int,
    *,
    num_steps: int,
    schedule: Schedule,
    warmup_fraction: float,
    final_fraction: float,
    decay_fraction: float = 1.0,
) -> float:
    """Return the share of the peak at ``step``; the last step has ``final_fraction``, except under ``constant``."""
    warmup = round(warmup_fraction * num_steps)
    if step < warmup:
        return (step + 1) / warmup
    start = warmup
    if schedule == "wsd":
        start = max(warmup, num_steps - max(round(decay_fraction * num_steps), 1))
    share = min(max((step - start) / max(num_steps - 1 - start, 1), 0.0), 1.0)
    return final_fraction + (1 - final_fraction) * _remaining(schedule, share)


def _remaining(schedule: Schedule, share: float) -> float:
    """Return the factor of the decay, from 1 down to 0, after ``share`` of its steps."""
    match schedule:
        case "constant":
            return 1.0
        case "cosine":
            return 0.5 * (1 + math.cos(math.pi * share))
        case "linear":
            return 1.0 - share
        case "one_minus_sqrt" | "wsd":
            return 1.0 - math.sqrt(share)
