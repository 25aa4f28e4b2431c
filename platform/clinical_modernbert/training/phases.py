"""The phases of a run over its steps, as functions of the step.

A step has the same number of tokens in every phase, but for the smaller batches of a batch warm-up in the first one.
"""

from dataclasses import dataclass

from clinical_modernbert.recipe import PretrainRecipe
from clinical_modernbert.recipe.batch_course import BatchCourse
from clinical_modernbert.recipe.pretrain import PhaseSection


@dataclass(frozen=True, slots=True)
class Phase:
    """One phase with its place in the run."""

    number: int
    section: PhaseSection
    first_step: int
    num_steps: int
    course: BatchCourse
    """Rows of each step's global batch."""
    micro_batch_rows: int
    """Rows of one forward pass of one worker."""
    first_row: int
    """Place in the row order at ``first_step``: a phase continues in the rows where the last phase of its length stopped."""
    global_rope_theta: float | None
    """RoPE base of global layers; None: the model's."""

    @property
    def sequence_length(self) -> int:
        """Tokens a row."""
        return self.section.sequence_length

    @property
    def end_step(self) -> int:
        """First step after the phase."""
        return self.first_step + self.num_steps

    def batch_rows(self, step: int) -> int:
        """Return the rows of the global batch of ``step``."""
        return self.course.size(step - self.first_step)

    def place(self, step: int, *, skipped: int) -> int:
        """Return where the batch of ``step`` begins in the row order; ``skipped`` batches before it were left out."""
        return self.first_row + self.course.before(step - self.first_step + skipped)


def lay_out(recipe: PretrainRecipe) -> tuple[Phase, ...]:
    """Return the recipe's phases in their order."""
    training = recipe.training
    micro_tokens = recipe.scaling.micro_batch_rows * training.sequence_length
    phases: list[Phase] = []
    for number, section in enumerate(training.resolved_phases):
        before = [phase for phase in phases if phase.sequence_length == section.sequence_length]
        course = training.course if number == 0 else BatchCourse(training.batch_rows)
        theta = section.global_rope_theta or (phases[-1].global_rope_theta if phases else None)
        phases.append(
            Phase(
                number=number,
                section=section,
                first_step=phases[-1].end_step if phases else 0,
                num_steps=training.steps_of(section),
                course=course.times(training.sequence_length, section.sequence_length),
                micro_batch_rows=micro_tokens // section.sequence_length,
                first_row=sum(phase.course.before(phase.num_steps) for phase in before),
                global_rope_theta=theta,
            )
        )
    return tuple(phases)


def phase_at(phases: tuple[Phase, ...], step: int) -> Phase:
    """Return the phase of ``step``."""
    for phase in phases:
        if phase.first_step <= step < phase.end_step:
            return phase
    raise ValueError(f"step {step} is outside the run's {phases[-1].end_step} steps")
