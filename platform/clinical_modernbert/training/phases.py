"""The phases of a run over its steps, as functions of the step.

A step has the same number of tokens in every phase, but for the smaller batches of a batch warm-up in the first one.
"""

from dataclasses import dataclass

from clinical_modernbert.recipe import PretrainRecipe
from clinical_modernbert.recipe.batch_course import BatchCourse
from clinical_modernbert.recipe.phases import PhaseSection
from clinical_modernbert.training.mixture import Mixture, block_rows


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
    mixture: Mixture
    """Where its rows come from. A phase continues in a corpus's rows where the last phase of its length stopped."""
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
        """Return the rows of the phase before the batch of ``step``; ``skipped`` batches before it were left out."""
        return self.course.before(step - self.first_step + skipped)


def lay_out(recipe: PretrainRecipe) -> tuple[Phase, ...]:
    """Return the recipe's phases in their order."""
    training = recipe.training
    micro_tokens = recipe.scaling.micro_batch_rows * training.sequence_length
    phases: list[Phase] = []
    for number, section in enumerate(training.resolved_phases):
        corpora = section.corpora or {recipe.corpus: 1.0}
        taken = _rows_taken(phases, section.sequence_length, seed=training.seed)
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
                mixture=Mixture(
                    corpora=tuple(corpora),
                    block_rows=block_rows(tuple(corpora.values())),
                    first_rows=tuple(taken.get(corpus, 0) for corpus in corpora),
                ),
                global_rope_theta=theta,
            )
        )
    return tuple(phases)


def _rows_taken(phases: list[Phase], sequence_length: int, *, seed: int) -> dict[str, int]:
    """Return how many rows of this length the phases take of each corpus."""
    taken: dict[str, int] = {}
    for phase in phases:
        if phase.sequence_length == sequence_length:
            ends = phase.mixture.taken(phase.course.before(phase.num_steps), seed=seed)
            taken |= dict(zip(phase.mixture.corpora, ends.tolist(), strict=True))
    return taken


def phase_at(phases: tuple[Phase, ...], step: int) -> Phase:
    """Return the phase of ``step``."""
    for phase in phases:
        if phase.first_step <= step < phase.end_step:
            return phase
    raise ValueError(f"step {step} is outside the run's {phases[-1].end_step} steps")
