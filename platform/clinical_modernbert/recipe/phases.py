"""A phase of a pretraining run: its length, the corpora of its rows, its objective and its schedule."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from clinical_modernbert.recipe.batch_course import BatchCourse
from clinical_modernbert.recipe.corpus import SequenceLength
from clinical_modernbert.recipe.optimizer import Schedule, steps_of
from clinical_modernbert.recipe.section import Section

LEAST_SHARE = 0.001
"""Smallest share of a phase's rows that a corpus may have."""


class PhaseSection(Section):
    """A range of steps with its own row length, corpora and objective. A step has the same number of tokens in every phase."""

    sequence_length: SequenceLength
    """Tokens a row; the phase's corpora must hold shards of this length."""
    corpora: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    """Where the phase's rows come from: corpus -> weight. Each has its weight's share of the rows, to a thousandth. All corpora
    of a run must have one tokenizer and one held_out section. Empty: the recipe's ``corpus`` alone."""
    objective: Literal["masked", "causal"] = "masked"
    """``masked``: predict masked tokens from both sides. ``causal``: predict each next token from those before it in its segment,
    unmasked; a detour of an encoder's training, after which a masked phase follows."""
    num_steps: int | None = Field(default=None, ge=1)
    """Optimizer steps of the phase; set either this or tokens."""
    tokens: int | None = Field(default=None, ge=1)
    """Tokens of the phase, rounded up to whole steps."""
    schedule: Schedule | None = None
    """Schedule over the steps of this phase only. Set it in all phases or in none; then optimizer.schedule spans the run."""
    learning_rate: float | None = Field(default=None, gt=0)
    """Peak of the phase's schedule; None: optimizer.learning_rate."""
    warmup_fraction: float = Field(default=0.0, ge=0, lt=1)
    """Share of the phase's steps over which its schedule rises from 0; warmup_steps or warmup_tokens replace it."""
    warmup_steps: int | None = Field(default=None, ge=0)
    """Steps over which the phase's schedule rises from 0."""
    warmup_tokens: int | None = Field(default=None, ge=0)
    """Tokens over which the phase's schedule rises from 0, rounded up to whole steps."""
    final_fraction: float = Field(default=0.0, ge=0, le=1)
    """Learning rate at the end of the phase's schedule, as a share of its peak."""
    mask_rate: float | None = Field(default=None, gt=0, lt=1)
    """Share of tokens masked in every step of the phase; None: the rate of the masking section."""
    salience_odds: float | None = Field(default=None, ge=1)
    """Odds of clinical tokens in every step of the phase; None: the odds of the masking section."""
    global_rope_theta: float | None = Field(default=None, gt=0)
    """RoPE base of global layers from this phase on; None: as in the phase before."""

    def num_warmup_steps(self, num_steps: int, *, tokens: BatchCourse) -> int:
        """Return the steps of the warm-up in a phase of ``num_steps``; ``tokens`` are those of each step."""
        return steps_of(self.warmup_steps, self.warmup_tokens, tokens, share=self.warmup_fraction * num_steps)

    @model_validator(mode="after")
    def _every_corpus_has_rows(self) -> Self:
        total = sum(self.corpora.values())
        rare = [name for name, weight in self.corpora.items() if weight < LEAST_SHARE * total]
        if rare:
            raise ValueError(f"corpora: the weight of {', '.join(rare)} is below a thousandth of the phase's rows")
        return self

    @model_validator(mode="after")
    def _causal_masks_nothing(self) -> Self:
        if self.objective == "causal" and (self.mask_rate is not None or self.salience_odds is not None):
            raise ValueError("objective=causal masks no token: leave mask_rate and salience_odds out")
        return self

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if (self.num_steps is None) == (self.tokens is None):
            raise ValueError(
                f"a phase needs num_steps or tokens, one of the two: got {self.num_steps} and {self.tokens}"
            )
        if self.warmup_steps is not None and self.warmup_tokens is not None:
            raise ValueError(
                f"warmup_steps={self.warmup_steps} and warmup_tokens={self.warmup_tokens} exclude each other"
            )
        own = (self.learning_rate, self.warmup_fraction, self.warmup_steps, self.warmup_tokens, self.final_fraction)
        if self.schedule is None and any(own):
            raise ValueError(
                "learning_rate, warmup_fraction, warmup_steps, warmup_tokens and final_fraction need a schedule of the phase"
            )
        if self.schedule == "wsd":
            raise ValueError("schedule=wsd spans a run; give one phase schedule=constant and the next one_minus_sqrt")
        return self
