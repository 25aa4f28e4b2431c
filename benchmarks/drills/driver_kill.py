"""Kill the driver of a training job with everything below it, and submit the same command again.

``lost`` counts kills after which the job began at step 0 although a checkpoint was there; ``wrong`` is 1 where the weights differ
from those of the unbroken run in any bit, or a step is missing or twice in the curve.
"""

from pathlib import Path

import numpy as np

from benchmarks.drill import Outcome
from benchmarks.kits.training_runs import (
    EVERY_STEPS,
    TWO_WORKERS,
    finish,
    kill_all,
    progress,
    same_weights,
    start_job,
    starts,
    steps_of,
    tiny_plan,
    tiny_store,
    unbroken,
    wait_for_step,
)

_STEPS_A_KILL = 12


def run(scratch: Path, seed: int, *, num_kills: int = 3) -> Outcome:
    """Kill and submit again ``num_kills`` times."""
    rng = np.random.default_rng(seed)
    store = tiny_store(scratch / "store")
    num_steps = (num_kills + 1) * _STEPS_A_KILL
    expected = unbroken(store, scratch, num_steps)
    overrides = (*TWO_WORKERS, f"training.num_steps={num_steps}", "name=killed")
    plan = tiny_plan(store, *overrides)
    kills, lost = [], 0
    job = start_job(store, scratch, *overrides)
    for number in range(num_kills):
        at = number * _STEPS_A_KILL + int(rng.integers(2 * EVERY_STEPS - 2, _STEPS_A_KILL))
        wait_for_step(plan, at)
        kill_all(job)
        seen = progress(plan)
        known = set(starts(seen))
        job = start_job(store, scratch, *overrides)
        started = starts(wait_for_step(plan, 0, after=known))
        (after,) = (step for when, step in started.items() if when not in known)
        lost += not after
        kills.append({"step": seen["step"], "resumed_after": after})
    model = finish(job, plan)
    complete = [point["step"] for point in steps_of(model)] == list(range(num_steps))
    return Outcome(
        injected=num_kills,
        recovered=len(kills),
        lost=lost,
        wrong=int(not same_weights(model, expected) or not complete),
        facts={"checkpoint_every_steps": EVERY_STEPS, "kills": kills},
    )
