"""Interrupt a run at steps that the seed draws and resume it: schedules, random numbers and rows continue unchanged.

Every step, also one that is trained twice, is compared with the same step of the uninterrupted run: learning rate, mask rate,
odds, the rows of the global batch, the masked input ids, the state of torch's generator, and the loss, all to the bit.
``wrong`` counts steps that differ in any of them, ``lost`` steps that were never trained.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from clinical_modernbert.artifacts import Plan
from clinical_modernbert.training import loop
from clinical_modernbert.training.batches import WorkerShare
from clinical_modernbert.training.launch import pretrain_in_process
from clinical_modernbert.training.step import Signals, StepContext, StepResult

from benchmarks.drill import Outcome
from benchmarks.kits.training_runs import same_weights, tiny_plan, tiny_store

_NUM_STEPS = 60
_KEYS = ("learning_rate", "loss", "masked", "salient_masked")
# Two phases with their own schedules, so that a resume after the first must find its step in the second.
_PHASES = (
    "training.num_steps=null",
    "training.phases=[{sequence_length: 64, num_steps: 30, schedule: constant, warmup_fraction: 0.2}, "
    "{sequence_length: 64, num_steps: 30, schedule: one_minus_sqrt, salience_odds: 2}]",
)


class _BrokenOffError(Exception):
    pass


def run(scratch: Path, seed: int, *, num_breaks: int = 10) -> Outcome:
    """Interrupt one run ``num_breaks`` times."""
    store = tiny_store(scratch / "store")
    expected: list[dict[str, Any]] = []
    with _watched(expected, breaks=[]):
        whole = pretrain_in_process(tiny_plan(store, *_PHASES, "name=unbroken"))
    by_step = {step["step"]: step for step in expected}
    breaks = sorted(np.random.default_rng(seed).choice(np.arange(6, _NUM_STEPS), num_breaks, replace=False).tolist())
    plan = tiny_plan(store, *_PHASES, "checkpoint.every_steps=4", "name=broken")
    seen: list[dict[str, Any]] = []
    with _watched(seen, breaks=breaks):
        recovered, model = _until_done(plan)
    trained = {step["step"] for step in seen}
    wrong = sum(step != by_step[step["step"]] for step in seen)
    return Outcome(
        injected=num_breaks,
        recovered=recovered,
        lost=_NUM_STEPS - len(trained),
        wrong=wrong + (not same_weights(model, whole)),
        facts={"breaks": breaks, "steps_compared": len(seen), "steps_redone": len(seen) - len(trained)},
    )


def _until_done(plan: Plan) -> tuple[int, Any]:
    recovered = 0
    while True:
        try:
            return recovered, pretrain_in_process(plan)
        except _BrokenOffError:
            recovered += 1


@contextmanager
def _watched(seen: list[dict[str, Any]], *, breaks: list[int]) -> Iterator[None]:
    """Append what defines every step to ``seen``; interrupt the run once before each step of ``breaks``."""
    real, left = loop.train_step, set(breaks)

    def step(context: StepContext, share: WorkerShare, *, step: int, signals: Signals) -> StepResult:
        if step in left:
            left.remove(step)
            raise _BrokenOffError
        generator = hashlib.sha256(torch.get_rng_state().numpy().tobytes()).hexdigest()
        result = real(context, share, step=step, signals=signals)
        ids = b"".join(batch.input_ids_T.numpy().tobytes() for batch in share.micro_batches)
        seen.append(
            {
                "step": step,
                "mask_rate": context.masker.rate(step),
                "salience_odds": context.masker.odds(step),
                **{key: getattr(result, key) for key in _KEYS},
                "rows": share.global_rows_R.tolist(),
                "ids": hashlib.sha256(ids).hexdigest(),
                "generator": generator,
            }
        )
        return result

    loop.train_step = step
    try:
        yield
    finally:
        loop.train_step = real
