"""The learning rate as a function of the step: linear warm-up, then the schedule's shape."""

import math
from dataclasses import dataclass

from clinical_modernbert.recipe.batch_course import BatchCourse
from clinical_modernbert.recipe.optimizer import OptimizerSection, Schedule
from clinical_modernbert.training.phases import Phase

_NO_TOKENS = BatchCourse(0)


def learning_rate(step: int, *, phases: tuple[Phase, ...], section: OptimizerSection) -> float:
    """Return the learning rate of ``step``: by its phase's schedule if phases have schedules, else by the run's."""
    for phase in phases:
        own = phase.section
        if own.schedule is not None and phase.first_step <= step < phase.end_step:
            peak = own.learning_rate or section.learning_rate
            tokens = phase.course.times(phase.sequence_length)
            warmup = own.num_warmup_steps(phase.num_steps, tokens=tokens)
            of_phase = _Course(own.schedule, phase.num_steps, warmup, final_fraction=own.final_fraction)
            return peak * _share_of_peak(step - phase.first_step, of_phase)
    tokens = phases[0].course.times(phases[0].sequence_length)
    return run_learning_rate(step, num_steps=phases[-1].end_step, tokens=tokens, section=section)


def run_learning_rate(
    step: int, *, num_steps: int, section: OptimizerSection, tokens: BatchCourse = _NO_TOKENS
) -> float:
    """Return the learning rate of ``step`` by the schedule of the whole run; ``tokens`` of each step serve settings in tokens."""
    warmup = section.num_warmup_steps(num_steps, tokens=tokens)
    start = warmup
    if section.schedule == "wsd":
        start = max(warmup, num_steps - section.num_decay_steps(num_steps, tokens=tokens))
    of_run = _Course(section.schedule, num_steps, warmup, decay_start=start, final_fraction=section.final_fraction)
    return section.learning_rate * _share_of_peak(step, of_run)


@dataclass(frozen=True, slots=True)
class _Course:
    """A schedule over the steps of a run or a phase."""

    schedule: Schedule
    num_steps: int
    warmup: int
    """Steps of the warm-up."""
    final_fraction: float
    decay_start: int | None = None
    """First step of the decay; None: after the warm-up."""


def _share_of_peak(step: int, course: _Course) -> float:
    """Return the share of the peak at ``step``; the last step has ``final_fraction``, except under ``constant``."""
    if step < course.warmup:
        return (step + 1) / course.warmup
    start = course.warmup if course.decay_start is None else course.decay_start
    share = min(max((step - start) / max(course.num_steps - 1 - start, 1), 0.0), 1.0)
    return course.final_fraction + (1 - course.final_fraction) * _remaining(course.schedule, share)


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
