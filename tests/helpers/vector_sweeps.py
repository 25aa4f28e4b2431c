"""The report of a made-up sweep of vectors with three seeds: the cold arm finds more, by the package's own comparison."""

import numpy as np
from clinical_modernbert.recipe import SweepRecipe, build_recipe
from clinical_modernbert.sweeps.kinds import PAIR_METRICS, VECTORS
from clinical_modernbert.sweeps.report import compare_arms
from clinical_modernbert.sweeps.results import SweepReport, Trained, Trial
from clinical_modernbert.sweeps.scores import GroupScores

ARMS = {"warm": [], "cold": ["training.temperature=0.02"]}
SOURCES = ("crosswalk", "parents")


def vector_recipe() -> SweepRecipe:
    """Return the recipe of the sweep."""
    values = {"kind": "sweep", "name": "vectors", "base": "contrast/demo", "pairs": "codes-1", "arms": ARMS}
    return build_recipe(SweepRecipe, values, origin="test")


def vector_report() -> SweepReport:
    """Return its report; models are ``<arm>-<seed>``."""
    rng = np.random.default_rng(0)
    recipe = vector_recipe()
    trials, scores = [], {}
    for seed in recipe.seeds:
        for arm, overrides in ARMS.items():
            share = 0.5 + 0.1 * (arm == "cold") + rng.normal(0, 0.005)
            counts = np.full(80, 10)
            sums = {metric: counts * share + rng.normal(0, 0.2, 80) for metric in PAIR_METRICS}
            found = GroupScores("digest", np.arange(80, dtype=np.uint64), counts, sums)
            scores[f"{arm}-{seed}"] = dict.fromkeys(SOURCES, found)
            trials.append(
                Trial(
                    point={"arm": arm, "seed": seed},
                    recipe="contrast/demo",
                    overrides=["name=vectors-trial", "pairs=codes-1", *overrides, f"training.seed={seed}"],
                    model=f"{arm}-{seed}",
                    value=share,
                    stopped_at_rung=None,
                    stopped_after=None,
                    error=None,
                    trained=Trained(
                        held_out={"pair_loss": 2.0, "pair_recall1": share},
                        num_parameters=1_600_000,
                        num_steps=300,
                        budget=76_800,
                        training_flops=None,
                        initial_weights="w",
                        row_order=f"r{seed}",
                        data="codes-1",
                    ),
                )
            )
    trials.sort(key=lambda trial: VECTORS.cost(trial.value))
    return SweepReport("contrast", recipe.base, trials, comparison=compare_arms(recipe, VECTORS, trials, scores))
