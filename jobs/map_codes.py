"""Run a map recipe: a model -> the map of code embeddings.

python jobs/map_codes.py map/demo [--set path=value] [--root URI] [--dry-run]
"""

from clinical_modernbert.artifacts import Artifact, Plan
from clinical_modernbert.job import main
from clinical_modernbert.recipe import MapRecipe


def run(plan: Plan[MapRecipe]) -> Artifact:
    """Import the heavy part only when there is work to do."""
    from clinical_modernbert.evaluation.codes.map import map_codes

    return map_codes(plan)


if __name__ == "__main__":
    main(MapRecipe, run)
