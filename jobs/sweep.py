"""Run a sweep: a recipe of pretraining or vectors with overrides -> trials and a report. See docs/sweeps.md.

python jobs/sweep.py sweep/demo [--set path=value] [--root URI] [--dry-run]
"""

from clinical_modernbert.artifacts import Artifact, Plan
from clinical_modernbert.job import main
from clinical_modernbert.recipe import SweepRecipe
from clinical_modernbert.sweeps.trials import sweep_plan


def run(plan: Plan[SweepRecipe]) -> Artifact:
    """Import the heavy modules only if there is work to do."""
    from clinical_modernbert.sweeps.run import sweep

    return sweep(plan)


if __name__ == "__main__":
    main(SweepRecipe, run, planned=sweep_plan)
