"""Kill the driver of a training job with all of its child processes, and submit the same command again.

``lost`` counts kills after which the job began at step 0 although there was a checkpoint; ``wrong`` is 1 if the weights differ in
any bit from those of a run without kills, or the curve lacks a step or has one twice.
"""

from pathlib import Path

import numpy as np

from benchmarks.drill import Outcome
from benchmarks.kits.training_runs import (
    EVERY_STEPS,
    broken_run,
    finish,
    kill_all,
    progress,
    starts,
    wait_for_step,
)

_STEPS_A_KILL = 12


def run(scratch: Path, seed: int, *, num_kills: int = 3) -> Outcome:
    """Kill and submit again ``num_kills`` times."""
    rng = np.random.default_rng(seed)
    broken = broken_run(scratch, (num_kills + 1) * _STEPS_A_KILL)
    plan, job = broken.plan, broken.start()
    kills, lost = [], 0
    for number in range(num_kills):
        at = number * _STEPS_A_KILL + int(rng.integers(2 * EVERY_STEPS - 2, _STEPS_A_KILL))
        wait_for_step(plan, at)
        kill_all(job)
        seen = progress(plan)
        earlier = set(starts(seen))
        job = broken.start()
        started = starts(wait_for_step(plan, 0, after=earlier))
        (after,) = (step for when, step in started.items() if when not in earlier)
        lost += not after
        kills.append({"step": seen["step"], "resumed_after": after})
    model = finish(job, plan)
    return Outcome(
        injected=num_kills,
        recovered=len(kills),
        lost=lost,
        wrong=int(broken.is_wrong(model)),
        facts={"checkpoint_every_steps": EVERY_STEPS, "kills": kills},
    )
