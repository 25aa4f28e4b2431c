"""The fields in which recipes differ."""

from clinical_modernbert.recipe.overrides import dotted
from clinical_modernbert.recipe.section import RecipeValues


def differing(recipes: dict[str, RecipeValues]) -> list[dict[str, str]]:
    """Return a row for each recipe field that is not the same everywhere, with its value by run; - where it is absent."""
    flat = {run: {path: str(value) for path, value in dotted(recipe).items()} for run, recipe in recipes.items()}
    fields = sorted({field for values in flat.values() for field in values})
    return [
        {"field": field, **{run: values.get(field, "-") for run, values in flat.items()}}
        for field in fields
        if len({values.get(field) for values in flat.values()}) > 1
    ]
