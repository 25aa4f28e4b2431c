"""Recipes: the typed schema of everything a job can be told, and its loader. Loads no torch and no ray."""

from clinical_modernbert.recipe.contrast import ContrastRecipe
from clinical_modernbert.recipe.corpus import CorpusRecipe
from clinical_modernbert.recipe.embed import EmbedRecipe, ExtractRecipe, ProjectRecipe, TableRecipe
from clinical_modernbert.recipe.evaluate import EvaluateRecipe, FineTuneRecipe, MapRecipe, ProbeRecipe, RunRecipe
from clinical_modernbert.recipe.loader import RECIPE_TYPES, build_recipe, load_recipe, read_recipe
from clinical_modernbert.recipe.merge import MergeRecipe
from clinical_modernbert.recipe.pairs import PairsRecipe
from clinical_modernbert.recipe.pretrain import PretrainRecipe
from clinical_modernbert.recipe.section import Recipe
from clinical_modernbert.recipe.serve import ServeRecipe
from clinical_modernbert.recipe.sweep import SweepRecipe

__all__ = [
    "RECIPE_TYPES",
    "ContrastRecipe",
    "CorpusRecipe",
    "EmbedRecipe",
    "EvaluateRecipe",
    "ExtractRecipe",
    "FineTuneRecipe",
    "MapRecipe",
    "MergeRecipe",
    "PairsRecipe",
    "PretrainRecipe",
    "ProbeRecipe",
    "ProjectRecipe",
    "Recipe",
    "RunRecipe",
    "ServeRecipe",
    "SweepRecipe",
    "TableRecipe",
    "build_recipe",
    "load_recipe",
    "read_recipe",
]
