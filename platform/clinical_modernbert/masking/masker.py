"""Training masks as a pure function of (seed, step, row): every worker count and every resume draws the same ones."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clinical_modernbert.masking.masks import TokenRanges, corrupt, linear, row_draws, select
from clinical_modernbert.recipe.pretrain import MaskingSection


@dataclass(frozen=True, slots=True)
class MaskSpan:
    """A range of steps with a fixed rate or odds; None keeps the schedule's value."""

    first_step: int
    end_step: int
    rate: float | None
    odds: float | None


@dataclass(frozen=True, slots=True)
class Masker:
    """Masks rows of token ids by the recipe's strategy and schedule."""

    section: MaskingSection
    tokens: TokenRanges
    num_steps: int
    seed: int
    spans: tuple[MaskSpan, ...] = ()
    """Ranges of steps that override the schedule."""

    def rate(self, step: int) -> float:
        """Share of maskable tokens that is masked at ``step``."""
        for span in self.spans:
            if span.rate is not None and span.first_step <= step < span.end_step:
                return span.rate
        return linear(step, num_steps=self.num_steps, start=self.section.rate_start, end=self.section.rate_end)

    def odds(self, step: int) -> float:
        """Odds of a clinical token against those of any other at ``step``; 1 where the strategy does not prefer any."""
        if self.section.strategy == "uniform":
            return 1.0
        for span in self.spans:
            if span.odds is not None and span.first_step <= step < span.end_step:
                return span.odds
        return linear(step, num_steps=self.num_steps, start=self.section.odds_start, end=self.section.odds_end)

    def mask(
        self,
        ids_RL: NDArray[np.int64],
        *,
        salient_RL: NDArray[np.bool_],
        valid_RL: NDArray[np.bool_],
        rows_R: NDArray[np.int64],
        step: int,
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return ``(corrupted ids, selected)``; ``rows_R`` are the rows' positions in the step's global batch."""
        maskable = valid_RL & ~np.isin(ids_RL, self.tokens.special_ids)
        draws = row_draws(rows_R, ids_RL.shape[1], seed=self.seed, step=step)
        selected = select(
            draws[0],
            maskable_RL=maskable,
            salient_RL=salient_RL,
            rate=self.rate(step),
            odds=self.odds(step),
            whole_terms=self.section.strategy == "token_aware",
        )
        return corrupt(ids_RL, selected, uniform=draws[1], choice=draws[2], tokens=self.tokens), selected
