"""The corpora of a pretraining run or of an average: resolved, and checked to be of one tokenizer and one held-out split.

Loads no torch.
"""

from collections.abc import Mapping

from clinical_modernbert.artifacts import Artifact, Plan, Store, find_artifact, make_plan, resolve, trained_on
from clinical_modernbert.errors import RecipeError
from clinical_modernbert.recipe import MergeRecipe, PretrainRecipe

_TOKENIZER = "tokenizer/tokenizer.json"


def pretrain_plan(recipe: PretrainRecipe, store: Store) -> Plan[PretrainRecipe]:
    """Plan the run; raises ``RecipeError`` if its corpora don't fit each other."""
    plan = make_plan(recipe, store)
    check_corpora(plan.artifacts)
    return plan


def merge_plan(recipe: MergeRecipe, store: Store) -> Plan[MergeRecipe]:
    """Plan the average, with the corpora that its models were trained on unless the recipe names some.

    Raises ``RecipeError`` if the corpora don't fit each other, or if the store lacks one.
    """
    plan = make_plan(recipe, store)
    if recipe.corpora is None:
        further = tuple(corpus.manifest.id for corpus in _corpora_of_models(plan))
        plan = make_plan(recipe.model_copy(update={"corpora": further}), store)
    check_corpora(plan.artifacts)
    return plan


def _corpora_of_models(plan: Plan[MergeRecipe]) -> list[Artifact]:
    """Return the corpora that the models were trained on and that have rows of the recipe's length, without ``corpus``."""
    known: dict[str, Artifact] = {}
    for entry in plan.inputs:
        run_id = entry.id.removeprefix("model/").partition("@")[0]
        model = find_artifact(plan.store, "model", run_id) if entry.id.startswith("model/") else None
        for corpus_id in trained_on(model).corpora if model else ():
            corpus = find_artifact(plan.store, "corpus", corpus_id)
            if corpus is None:
                raise RecipeError(
                    f"corpora: {entry.id} was trained on {corpus_id}, which {plan.store.uri} no longer has; name the corpora to "
                    "score on besides corpus, or corpora=[] for none"
                )
            if (
                str(plan.recipe.sequence_length) in corpus.summary["rows"]
            ):  # corpus.shards, which reads rows, loads torch
                known[corpus_id] = corpus
    known.pop(plan.artifacts["corpus"].manifest.id, None)
    return list(known.values())


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
