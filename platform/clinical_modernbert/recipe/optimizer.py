"""The optimizer of a pretraining run and its learning rate by step."""

from typing import Literal, Self

from pydantic import Field, model_validator

from clinical_modernbert.recipe.batch_course import BatchCourse
from clinical_modernbert.recipe.section import Section

Schedule = Literal["cosine", "constant", "linear", "one_minus_sqrt", "wsd"]


class OptimizerSection(Section):
    """The optimizer and the learning rate by step."""

    algorithm: Literal["stable_adamw", "adamw"] = "stable_adamw"
    """``stable_adamw`` (paper, 3.3) clips the update of each tensor by its own RMS; ``adamw`` is torch's."""
    learning_rate: float = Field(default=5e-4, gt=0)
    """Peak learning rate."""
    schedule: Schedule = "cosine"
    """From the warm-up to the last step: ``cosine``, ``linear`` and ``one_minus_sqrt`` fall to final_fraction, ``constant`` does
    not fall, ``wsd`` is constant and then falls like one_minus_sqrt over the last decay_fraction of the steps."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """Decay of the first moment."""
    beta2: float = Field(default=0.98, ge=0, lt=1)
    """Decay of the second moment."""
    epsilon: float = Field(default=1e-6, gt=0)
    """Added to the square root of the second moment."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Weight decay, multiplied by the learning rate of the step; norms and biases are excluded. ModernBERT and BioClinical
    ModernBERT state theirs (1e-5, ``decoupled_stableadamw``) for a decay that is multiplied by the rate's share of its peak
    instead: divide such a number by learning_rate (1e-5 at a rate of 3e-4 is 0.033 here). Numbers for AdamW in torch or
    transformers apply as they are."""
    warmup_fraction: float = Field(default=0.1, ge=0, lt=1)
    """Share of the steps over which the learning rate rises linearly from 0; warmup_steps or warmup_tokens replace it."""
    warmup_steps: int | None = Field(default=None, ge=0)
    """Steps of the warm-up. Unlike a share, they stay the same if the run becomes longer."""
    warmup_tokens: int | None = Field(default=None, ge=0)
    """Tokens of the warm-up, rounded up to whole steps."""
    decay_fraction: float = Field(default=0.1, gt=0, le=1)
    """Share of the steps over which ``wsd`` falls; decay_steps or decay_tokens replace it."""
    decay_steps: int | None = Field(default=None, ge=1)
    """Last steps of the run over which ``wsd`` falls."""
    decay_tokens: int | None = Field(default=None, ge=1)
    """Last tokens of the run over which ``wsd`` falls, rounded up to whole steps."""
    final_fraction: float = Field(default=0.0, ge=0, le=1)
    """Learning rate at the last step as a share of the peak."""
    max_gradient_norm: float | None = Field(default=1.0, gt=0)
    """Largest global norm of the gradients, which are scaled down to it; None: no limit."""

    def num_warmup_steps(self, num_steps: int, *, tokens: BatchCourse) -> int:
        """Return the steps of the warm-up in a run of ``num_steps``; ``tokens`` are those of each step."""
        return steps_of(self.warmup_steps, self.warmup_tokens, tokens, share=self.warmup_fraction * num_steps)

    def num_decay_steps(self, num_steps: int, *, tokens: BatchCourse) -> int:
        """Return the steps over which ``wsd`` falls in a run of ``num_steps``, at least one; their batches are full."""
        full = BatchCourse(tokens.full)
        return max(steps_of(self.decay_steps, self.decay_tokens, full, share=self.decay_fraction * num_steps), 1)

    def check_fits(self, num_steps: int, *, tokens: BatchCourse) -> None:
        """Raise ``ValueError`` unless warm-up and decay fit into a run of ``num_steps``; ``tokens`` are those of each step."""
        warmup, decay = (of(num_steps, tokens=tokens) for of in (self.num_warmup_steps, self.num_decay_steps))
        # A share of the decay may be all steps: then it begins where the warm-up ends.
        falls = self.decay_steps or self.decay_tokens
        if warmup > num_steps or (falls and warmup + decay > num_steps):
            fall = f" and a decay of {decay}" if falls else ""
            raise ValueError(
                f"optimizer: a warm-up of {warmup} steps{fall} does not fit into the run's {num_steps} steps"
            )

    @model_validator(mode="after")
    def _one_unit(self) -> Self:
        for name, steps, tokens in (
            ("warmup", self.warmup_steps, self.warmup_tokens),
            ("decay", self.decay_steps, self.decay_tokens),
        ):
            if steps is not None and tokens is not None:
                raise ValueError(f"{name}_steps={steps} and {name}_tokens={tokens} exclude each other")
        if self.schedule != "wsd" and (self.decay_steps or self.decay_tokens):
            raise ValueError(f"decay_steps and decay_tokens belong to schedule=wsd, got schedule={self.schedule}")
        return self


def steps_of(steps: int | None, tokens: int | None, of_steps: BatchCourse, *, share: float) -> int:
    """Return a number of steps that is given as such, as tokens, or else as a share of a run's steps."""
    if steps is not None:
        return steps
    return round(share) if tokens is None else of_steps.steps_for(tokens)
