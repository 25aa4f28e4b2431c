"""Build a pair set: vocabularies and texts -> pairs that mean the same, held out by concept. See docs/vectors.md.

python jobs/build_pairs.py pairs/codes [--set path=value] [--root URI] [--dry-run]
"""

from clinical_modernbert.artifacts import Artifact, Plan
from clinical_modernbert.corpus.pairs.build import pair_inputs
from clinical_modernbert.job import main
from clinical_modernbert.recipe import PairsRecipe


def run(plan: Plan[PairsRecipe]) -> Artifact:
    """Import the heavy modules only if there is work to do."""
    from clinical_modernbert.training.contrastive.mining import build_pair_set

    return build_pair_set(plan)


if __name__ == "__main__":
    main(PairsRecipe, run, raw_inputs=pair_inputs)
