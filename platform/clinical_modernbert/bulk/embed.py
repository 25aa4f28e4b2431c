"""The job that embeds a table of texts: ``vectors/*.parquet`` with ids and named columns."""

from clinical_modernbert.artifacts import Artifact, Plan
from clinical_modernbert.bulk.embed_part import RangeEmbedder
from clinical_modernbert.bulk.job import run_table
from clinical_modernbert.encoder import pooling_of
from clinical_modernbert.errors import ModelError
from clinical_modernbert.recipe import EmbedRecipe


def embed_table(plan: Plan[EmbedRecipe]) -> Artifact:
    """Embed the table that ``plan`` describes and publish ``vectors/*.parquet``; raises ``SourceError`` or ``ModelError``."""
    recipe = plan.recipe
    pooling = pooling_of(plan.artifacts["model"], recipe.pooling)
    _check_dimensions(plan.artifacts["model"], recipe)
    facts = {
        "pooling": pooling,
        "normalize": recipe.normalize,
        "dimensions": recipe.dimensions,
        "vector_type": recipe.vector_type,
        "metadata_columns": list(recipe.metadata_columns),
    }
    return run_table(plan, RangeEmbedder, done="embedded", facts=facts)


def _check_dimensions(model: Artifact, recipe: EmbedRecipe) -> None:
    if recipe.dimensions is None:
        return
    from transformers import AutoConfig

    width = AutoConfig.from_pretrained(model.folder("model")).hidden_size
    if recipe.dimensions > width:
        raise ModelError(f"dimensions={recipe.dimensions}: vectors of {model.manifest.id} have {width} numbers")
