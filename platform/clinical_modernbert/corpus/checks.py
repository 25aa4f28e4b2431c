"""What a build checks before it parses the first file, because it would otherwise fail hours later.

``check_recipe`` costs no download and reads the first text of each evaluation set: a dry run calls it too.
Loads neither torch nor ray.
"""

from pathlib import Path

from clinical_modernbert.artifacts import InputEntry
from clinical_modernbert.artifacts.remote_files import local_copy
from clinical_modernbert.corpus.fingerprint_inputs import fingerprint_inputs
from clinical_modernbert.corpus.presidio import check_presidio
from clinical_modernbert.errors import RecipeError
from clinical_modernbert.recipe import CorpusRecipe


def checked_inputs(recipe: CorpusRecipe) -> tuple[InputEntry, ...]:
    """Return the recipe's ``fingerprint_inputs`` after ``check_recipe``, so that a dry run checks both."""
    check_recipe(recipe)
    return fingerprint_inputs(recipe)


def check_recipe(recipe: CorpusRecipe) -> None:
    """Raise ``RecipeError`` for a tokenizer or model that is not here, ``SourceError`` for an evaluation set without text."""
    _check_tokenizer(recipe.tokenizer.base)
    if recipe.identifiers.engine == "presidio":
        check_presidio(recipe.identifiers)
    if recipe.decontamination.paths:
        from clinical_modernbert.sources.evaluation_sets import evaluation_texts

        for path in recipe.decontamination.paths:
            next(iter(evaluation_texts(local_copy(path))), None)
    if recipe.decontamination.id_lists:
        from clinical_modernbert.corpus.decontamination import listed_ids

        for path in recipe.decontamination.id_lists:
            listed_ids(path)


def _check_tokenizer(base: str) -> None:
    if base == "train" or Path(base).is_dir():
        return
    from huggingface_hub import constants, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = try_to_load_from_cache(base, "tokenizer.json") or try_to_load_from_cache(base, "tokenizer_config.json")
    except HFValidationError:
        raise RecipeError(f"tokenizer.base: {base!r} is neither a folder nor a hub id nor 'train'") from None
    if constants.HF_HUB_OFFLINE and not isinstance(cached, str):
        raise RecipeError(
            f"tokenizer.base: {base!r} is not in the hub cache, and HF_HUB_OFFLINE is set; fetch it first, or give a folder"
        )
