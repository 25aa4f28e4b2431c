"""Map the codes of a table: a model -> the 2-D map of its code embeddings. See docs/explorer.md.

python jobs/map_codes.py map/demo [--set path=value] [--root URI] [--dry-run]
"""

from clinical_modernbert.artifacts import Artifact, InputEntry, Plan
from clinical_modernbert.job import main
from clinical_modernbert.recipe import MapRecipe


def run(plan: Plan[MapRecipe]) -> Artifact:
    """Import the heavy modules only if there is work to do."""
    from clinical_modernbert.evaluation.codes.map import map_codes

    return map_codes(plan)


def inputs(recipe: MapRecipe) -> tuple[InputEntry, ...]:
    """Return the vocabularies that the recipe names."""
    from clinical_modernbert.evaluation.codes.search_terms import synonym_inputs

    return synonym_inputs(recipe.synonyms)


if __name__ == "__main__":
    main(MapRecipe, run, raw_inputs=inputs)
