"""Pretrain a model: corpora -> a Hugging Face folder. See docs/pretraining.md.

python jobs/pretrain.py pretrain/demo [--set path=value] [--root URI] [--dry-run]
"""

from clinical_modernbert.artifacts import Artifact, Plan
from clinical_modernbert.job import main
from clinical_modernbert.recipe import PretrainRecipe
from clinical_modernbert.training.corpora import pretrain_plan


def run(plan: Plan[PretrainRecipe]) -> Artifact:
    """Import the heavy modules only if there is work to do."""
    from clinical_modernbert.training.launch import pretrain

    return pretrain(plan)


if __name__ == "__main__":
    main(PretrainRecipe, run, planned=pretrain_plan)
