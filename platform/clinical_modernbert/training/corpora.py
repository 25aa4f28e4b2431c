"""The corpora of a pretraining run: resolved, and checked to be of one tokenizer and one held-out split. Loads no torch."""

from collections.abc import Mapping

from clinical_modernbert.artifacts import Artifact, Plan, Store, make_plan, resolve
from clinical_modernbert.errors import RecipeError
from clinical_modernbert.recipe import PretrainRecipe

_TOKENIZER = "tokenizer/tokenizer.json"


def pretrain_plan(recipe: PretrainRecipe, store: Store) -> Plan[PretrainRecipe]:
    """Plan the run; raises ``RecipeError`` if its corpora don't fit each other."""
    plan = make_plan(recipe, store)
    check_corpora(plan.artifacts)
    return plan


def open_corpora(recipe: PretrainRecipe, store: Store) -> dict[str, Artifact]:
    """Return the run's corpora by the names that the recipe gives them, the recipe's own first."""
    named = {field: resolve(store, kind, name) for field, (kind, name) in recipe.references().items()}
    check_corpora(named)
    return {name: named[field] for field, (_, name) in recipe.references().items()}


def check_corpora(named: Mapping[str, Artifact]) -> None:
    """Raise ``RecipeError`` unless all corpora have the tokenizer and the held-out split of ``corpus``; keys are recipe fields.

    Ids of another tokenizer mean other words. Under another split, a document that one corpus holds out is trained on in another.
    """
    main = named["corpus"]
    others = {field: corpus for field, corpus in named.items() if corpus.manifest.id != main.manifest.id}
    for field, corpus in others.items():
        if tokenizer_digest(corpus) != tokenizer_digest(main):
            raise RecipeError(
                f"{field}: corpus {corpus.manifest.id} has another tokenizer than {main.manifest.id}, the run's corpus: build it "
                "with tokenizer.base set to the tokenizer folder of that corpus, and tokenizer.num_clinical_tokens=0"
            )
        ours, theirs = (of.manifest.recipe.get("held_out") for of in (corpus, main))
        if ours != theirs:
            raise RecipeError(
                f"{field}: corpus {corpus.manifest.id} was built with held_out={ours}, the run's corpus {main.manifest.id} with "
                f"{theirs}: a document held out in one could be trained on in the other; build both with one held_out section"
            )


def tokenizer_digest(corpus: Artifact) -> str:
    """Return sha256 of the corpus's tokenizer.json."""
    return corpus.manifest.entry(_TOKENIZER).sha256
