"""The job that labels spans in a table of notes: ``note_nlp/*.parquet``, OMOP's table NOTE_NLP."""

from transformers import AutoConfig

from clinical_modernbert.artifacts import Artifact, Plan
from clinical_modernbert.bulk.extract_part import RangeExtractor
from clinical_modernbert.bulk.job import run_table
from clinical_modernbert.encoder.spans import class_of
from clinical_modernbert.errors import ModelError
from clinical_modernbert.recipe import ExtractRecipe


def extract_spans(plan: Plan[ExtractRecipe]) -> Artifact:
    """Label the table that ``plan`` describes and publish ``note_nlp/*.parquet``; raises ``SourceError`` or ``ModelError``."""
    _check_model(plan.artifacts["model"], plan.recipe)
    return run_table(plan, RangeExtractor, done="labelled", facts={"concepts": plan.recipe.concepts})


def _check_model(model: Artifact, recipe: ExtractRecipe) -> None:
    config = AutoConfig.from_pretrained(model.folder("model"))
    name = next(iter(config.architectures or ()), "model without an architecture")
    if not name.endswith("ForTokenClassification"):
        raise ModelError(f"{model.manifest.id} is a {name}: spans need a model with a ...ForTokenClassification head")
    labels = sorted({class_of(str(label)) for label in config.id2label.values()} - {"O"})
    unknown = sorted(recipe.concepts.keys() - set(labels))
    if unknown:
        raise ModelError(
            f"concepts: {model.manifest.id} has no label {', '.join(map(repr, unknown))}; it has {', '.join(labels)}"
        )
