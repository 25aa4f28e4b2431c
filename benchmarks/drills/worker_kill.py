"""Kill training workers by SIGKILL at steps that the seed draws: no step before a checkpoint is trained again.

One run of two workers under Ray Train and DeepSpeed gets all kills, one after the other. ``lost`` counts steps that were redone
beyond one checkpoint interval and the pending upload, which is at most another interval; ``wrong`` is 1 if the weights differ in
any bit from those of a run without kills, or the curve lacks a step or has one twice.
"""

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.drill import Outcome
from benchmarks.kits.training_runs import (
    EVERY_STEPS,
    broken_run,
    finish,
    progress,
    starts,
    wait_for_step,
    workers_of,
)

_STEPS_A_KILL = 12


def run(scratch: Path, seed: int, *, num_kills: int = 10) -> Outcome:
    """Kill ``num_kills`` workers of one run."""
    rng = np.random.default_rng(seed)
    broken = broken_run(scratch, (num_kills + 1) * _STEPS_A_KILL, f"scaling.max_failures={num_kills}")
    plan, job = broken.plan, broken.start()
    kills: list[dict[str, Any]] = []
    earlier: set[str] = set()
    for number in range(num_kills):
        at = number * _STEPS_A_KILL + int(rng.integers(1, _STEPS_A_KILL))
        wait_for_step(plan, at, after=earlier)
        victim = int(rng.integers(2))
        earlier |= set(starts(progress(plan)))
        workers_of(job)[victim].kill()
        reached = progress(plan)["step"]
        started = starts(wait_for_step(plan, 0, after=earlier))
        (after,) = (step for when, step in started.items() if when not in earlier)
        kills.append({"step": reached, "victim": victim, "resumed_after": after, "redone": reached - after})
    model = finish(job, plan)
    limit = 2 * EVERY_STEPS
    return Outcome(
        injected=num_kills,
        recovered=len(kills),
        lost=sum(max(kill["redone"] - limit, 0) for kill in kills),
        wrong=int(broken.is_wrong(model)),
        facts={"checkpoint_every_steps": EVERY_STEPS, "max_redone": max(k["redone"] for k in kills), "kills": kills},
    )
