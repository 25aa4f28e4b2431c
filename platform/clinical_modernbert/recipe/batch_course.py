"""How large the batches of a run are: fewer rows at first under a batch warm-up, then the same in all steps."""

from dataclasses import dataclass

from pydantic import Field

from clinical_modernbert.recipe.section import Section


class BatchWarmupSection(Section):
    """Small batches first, as in ModernBERT's pretraining (768 rows, which grow to 4,608 over 50 billion tokens)."""

    start_rows: int = Field(ge=1)
    """Rows of the first batches; divides training.batch_rows. The batch grows by this number at a time."""
    tokens: int = Field(ge=1)
    """Tokens over which the batch grows, counted in places for tokens; each size has the same number of them, in whole steps."""


@dataclass(frozen=True, slots=True)
class BatchCourse:
    """The size of each step's batch, in rows or in tokens.

    Example: full 4 and stages (2, 1), (1, 2), (1, 3) are the sizes 1, 1, 2, 3, 4, 4, ...
    """

    full: int
    stages: tuple[tuple[int, int], ...] = ()
    """``(steps, size)`` of the warm-up, smallest first."""

    @property
    def warmup_steps(self) -> int:
        """Steps before the first full batch."""
        return sum(num_steps for num_steps, _ in self.stages)

    def size(self, step: int) -> int:
        """Return the size of a step's batch."""
        for num_steps, size in self.stages:
            if step < num_steps:
                return size
            step -= num_steps
        return self.full

    def before(self, step: int) -> int:
        """Return the sum of the sizes of all steps before ``step``."""
        total = 0
        for num_steps, size in self.stages:
            total += min(step, num_steps) * size
            step = max(step - num_steps, 0)
        return total + step * self.full

    def steps_for(self, total: int) -> int:
        """Return the first steps whose sizes sum up to at least ``total``."""
        steps = 0
        for num_steps, size in self.stages:
            if total <= num_steps * size:
                return steps - (-total // size)
            total -= num_steps * size
            steps += num_steps
        return steps - (-total // self.full)

    def times(self, numerator: int, denominator: int = 1) -> "BatchCourse":
        """Return the course in another unit: rows of 128 tokens are ``times(128)`` tokens."""
        stages = tuple((num_steps, size * numerator // denominator) for num_steps, size in self.stages)
        return BatchCourse(self.full * numerator // denominator, stages)
