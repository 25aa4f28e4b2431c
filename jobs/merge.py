"""Average the weights of models: the last states of a run, or several exports. See docs/pretraining.md.

python jobs/merge.py my_average.yaml [--set path=value] [--root URI] [--dry-run]
"""

from clinical_modernbert.artifacts import Artifact, Plan
from clinical_modernbert.job import main
from clinical_modernbert.recipe import MergeRecipe
from clinical_modernbert.training.corpora import merge_plan


def run(plan: Plan[MergeRecipe]) -> Artifact:
    """Import the heavy modules only if there is work to do."""
    from clinical_modernbert.training.merge import merge

    return merge(plan)


if __name__ == "__main__":
    main(MergeRecipe, run, planned=merge_plan)
