"""What a corpus is made from, by content: all that its fingerprint needs. Loads neither torch nor ray."""

from clinical_modernbert.artifacts import InputEntry
from clinical_modernbert.recipe import CorpusRecipe
from clinical_modernbert.sources import list_units


def raw_inputs(recipe: CorpusRecipe) -> tuple[InputEntry, ...]:
    """Return one entry for each raw file or generated part that the recipe reads."""
    units = (unit for source in recipe.sources for unit in list_units(source))
    return tuple(InputEntry(name=f"{unit.source}/{unit.name}", id=unit.source, digest=unit.digest) for unit in units)
