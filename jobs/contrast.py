"""Train vectors: an encoder and a pair set -> a sentence-transformers folder. See docs/vectors.md.

python jobs/contrast.py contrast/minilm [--set path=value] [--root URI] [--dry-run]
"""

from clinical_modernbert.artifacts import Artifact, Plan
from clinical_modernbert.job import main
from clinical_modernbert.recipe import ContrastRecipe
from clinical_modernbert.training.contrastive.plan import contrast_plan


def run(plan: Plan[ContrastRecipe]) -> Artifact:
    """Import the heavy modules only if there is work to do."""
    from clinical_modernbert.training.launch import contrast

    return contrast(plan)


if __name__ == "__main__":
    main(ContrastRecipe, run, planned=contrast_plan)
