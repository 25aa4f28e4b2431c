"""One training step: the global batch's counts, forward and backward of each micro-batch, one optimizer update.

The loss of a step is the sum over all predicted tokens of the global batch divided by their number. So workers sum their counts
before the first backward pass; the signals that all workers must agree on travel in the same exchange.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from clinical_modernbert.errors import ModelError
from clinical_modernbert.masking import Masker
from clinical_modernbert.recipe.optimizer import OptimizerSection
from clinical_modernbert.training.batches import WorkerShare
from clinical_modernbert.training.engine import Engine
from clinical_modernbert.training.meter import step_flops
from clinical_modernbert.training.phases import Phase, phase_at
from clinical_modernbert.training.schedule import learning_rate
from clinical_modernbert.training.state import StepFigures
from clinical_modernbert.training.worker import Worker, sum_over_workers


@dataclass(frozen=True, slots=True)
class Signals:
    """What workers tell each other in each step, so that all act after the same one."""

    uploaded: bool
    """The upload of a pending checkpoint has ended: on this worker, or on all of them."""
    stop: bool
    """The run was asked to stop."""


@dataclass(frozen=True, slots=True)
class StepContext:
    """What every step of a run uses."""

    engine: Engine
    worker: Worker
    phases: tuple[Phase, ...]
    masker: Masker
    optimizer: OptimizerSection


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a step gave, equal on every worker."""

    loss: float
    """Mean over the predicted tokens of the global batch, in nats."""
    gradient_norm: float
    learning_rate: float
    masked: int
    tokens_C: tuple[int, ...]
    """By corpus of the phase."""
    salient: int
    salient_masked: int
    signals: Signals

    @property
    def tokens(self) -> int:
        """Tokens of the global batch."""
        return sum(self.tokens_C)


def train_step(context: StepContext, share: WorkerShare, *, step: int, signals: Signals) -> StepResult:
    """Train one step on this worker's share of the batch. Every worker calls it."""
    worker, engine = context.worker, context.engine
    # 1. Sum the counts of all workers: the loss's divisor must be known before the first backward pass.
    counts = [share.num_masked, share.num_salient, share.num_salient_masked, signals.uploaded, signals.stop]
    values = torch.tensor([*counts, *share.tokens_C], dtype=torch.float64)
    sums = [int(n) for n in sum_over_workers(values, worker)]
    num_masked, num_salient, num_salient_masked, num_uploaded, num_stop, *tokens_C = sums
    if num_masked == 0:
        raise ModelError(
            f"step {step}: no token of the global batch was masked; raise training.batch_rows or masking.rate_end"
        )
    # 2. Forward and backward of each micro-batch; gradients accumulate in the engine.
    engine.expect(len(share.micro_batches))
    loss = torch.zeros((), dtype=torch.float64)
    for batch in share.micro_batches:
        loss += engine.backward(batch, num_masked=num_masked).double().cpu()
    # 3. Exchange and clip gradients, update the weights.
    rate = learning_rate(step, phases=context.phases, section=context.optimizer)
    norm = engine.step(learning_rate=rate)
    return StepResult(
        loss=float(sum_over_workers(loss, worker)),
        gradient_norm=norm,
        learning_rate=rate,
        masked=num_masked,
        tokens_C=tuple(tokens_C),
        salient=num_salient,
        salient_masked=num_salient_masked,
        signals=Signals(uploaded=num_uploaded == worker.world_size, stop=num_stop > 0),
    )


def step_figures(
    context: StepContext, share: WorkerShare, result: StepResult, *, step: int, config: Any
) -> StepFigures:
    """Return the figures of a step for the curve; ``config`` is the model's. Every worker calls it."""
    phase = phase_at(context.phases, step)
    causal = phase.section.objective == "causal"
    own_flops = step_flops(config, share.lengths_S, num_masked=share.num_masked, causal=causal)
    return StepFigures(
        step=step,
        phase=phase.number,
        loss=result.loss,
        learning_rate=result.learning_rate,
        mask_rate=0.0 if causal else context.masker.rate(step),
        salience_odds=1.0 if causal else context.masker.odds(step),
        gradient_norm=result.gradient_norm,
        masked=result.masked,
        tokens=result.tokens,
        corpora=dict(zip(phase.mixture.corpora, result.tokens_C, strict=True)),
        salient=result.salient,
        salient_masked=result.salient_masked,
        flops=float(sum_over_workers(torch.tensor(own_flops, dtype=torch.float64), context.worker)),
        rows=hashlib.sha256(share.global_rows_R.tobytes()).hexdigest()[:16],
        fill=result.tokens / (phase.batch_rows(step) * phase.sequence_length),
    )


def step_seed(seed: int, step: int, rank: int) -> int:
    """Return the seed of a step's random numbers (dropout) on one worker."""
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0])
