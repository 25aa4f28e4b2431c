"""Kill training workers by SIGKILL at steps that the seed draws: nothing that was checkpointed is trained again.

One run of two workers under Ray Train and DeepSpeed takes all kills, one after the other. ``lost`` counts steps that were redone
beyond one checkpoint interval and the upload in flight, which is never more than another interval; ``wrong`` is 1 where the
weights differ from those of the unbroken run in any bit, or a step is missing or twice in the curve.
"""

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.drill import Outcome
from benchmarks.kits.training_runs import (
    EVERY_STEPS,
    TWO_WORKERS,
    finish,
    progress,
    same_weights,
    start_job,
    starts,
    steps_of,
    tiny_plan,
    tiny_store,
    unbroken,
    wait_for_step,
    workers_of,
)

_STEPS_A_KILL = 12


def run(scratch: Path, seed: int, *, num_kills: int = 10) -> Outcome:
    """Kill ``num_kills`` workers of one run."""
    rng = np.random.default_rng(seed)
    store = tiny_store(scratch / "store")
    num_steps = (num_kills + 1) * _STEPS_A_KILL
    expected = unbroken(store, scratch, num_steps)
    overrides = (*TWO_WORKERS, f"training.num_steps={num_steps}", f"scaling.max_failures={num_kills}", "name=killed")
    plan = tiny_plan(store, *overrides)
    job = start_job(store, scratch, *overrides)
    kills: list[dict[str, Any]] = []
    known: set[str] = set()
    for number in range(num_kills):
        at = number * _STEPS_A_KILL + int(rng.integers(1, _STEPS_A_KILL))
        wait_for_step(plan, at, after=known)
        victim = int(rng.integers(2))
        known |= set(starts(progress(plan)))
        workers_of(job)[victim].kill()
        reached = progress(plan)["step"]
        started = starts(wait_for_step(plan, 0, after=known))
        (after,) = (step for when, step in started.items() if when not in known)
        kills.append({"step": reached, "victim": victim, "resumed_after": after, "redone": reached - after})
    model = finish(job, plan)
    limit = 2 * EVERY_STEPS
    complete = [point["step"] for point in steps_of(model)] == list(range(num_steps))
    return Outcome(
        injected=num_kills,
        recovered=len(kills),
        lost=sum(max(kill["redone"] - limit, 0) for kill in kills),
        wrong=int(not same_weights(model, expected) or not complete),
        facts={"checkpoint_every_steps": EVERY_STEPS, "max_redone": max(k["redone"] for k in kills), "kills": kills},
    )
