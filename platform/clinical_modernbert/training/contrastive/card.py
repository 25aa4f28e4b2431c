"""The card of a model for vectors: what it was trained on, whether concepts were held out, figures, use, licences."""

import yaml

from clinical_modernbert.artifacts import Artifact, InputEntry, id_on_hub, model_name
from clinical_modernbert.corpus.pairs.unseen import PairHistory, drawn_categories
from clinical_modernbert.recipe import ContrastRecipe
from clinical_modernbert.training.card import weights_of
from clinical_modernbert.training.records import ContrastSummary


def vector_card(
    run_id: str,
    recipe: ContrastRecipe,
    pairs: Artifact,
    summary: ContrastSummary,
    *,
    initial_model: InputEntry,
    teacher: InputEntry | None,
    before: PairHistory,
) -> str:
    """Return the card in Markdown, with the front matter that the Hugging Face hub reads.

    ``before`` is what it started from and learns from.
    """
    base = id_on_hub(initial_model)
    front = {
        "library_name": "sentence-transformers",
        "pipeline_tag": "sentence-similarity",
        "tags": ["sentence-transformers", "clinical", "biomedical"],
        **({"license": recipe.model_card.licence} if recipe.model_card.licence else {}),
        **({"base_model": base} if base else {}),
    }
    sources = "\n".join(
        f"| {name} | {recipe.training.weights.get(name, 1.0):g} "
        f"| {account['pairs'].get('train', 0):,} | {account['pairs'].get('held_out', 0):,} "
        f"| {recipe.model_card.source_licences.get(name) or account['licence'] or 'not stated'} |"
        for name, account in pairs.summary["sources"].items()
        if recipe.training.weights.get(name, 1.0) > 0
    )
    training, dims = recipe.training, summary.head["matryoshka_dims"]
    held_out = "held-out pairs, trained on too" if training.split == "all" else "held-out pairs"
    num_scored = min(recipe.held_out.max_pairs, pairs.summary["pairs"].get("held_out", 0))
    figures = ", ".join(f"{name} {value:.4f}" for name, value in summary.held_out.items()) or "none"
    if "pair_loss" in summary.held_out:
        figures += (
            f". Those of pairs are on up to {num_scored:,} of them, each with a positive of its own among all of these"
        )
    blocks = [
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---",
        f"# {run_id}",
        f"An encoder of {summary.num_parameters:,} parameters whose vectors are near where terms mean the same. "
        f"{_twin(recipe, pairs, before)}",
        f"## Use\n\n`SentenceTransformer(folder)`, or the endpoint with pooling `{recipe.vectors.pooling}`. No prompts."
        + (f" Vectors may be cut to {dims} dimensions; scale them to length 1 after that." if dims else ""),
        f"## Data\n\nPair set `{summary.pairs}`. The run started from `{summary.start}`.\n\n"
        f"| source | weight | train pairs | {held_out} | licence |\n|---|--:|--:|--:|---|\n{sources}",
        f"## Training\n\n{summary.num_steps:,} steps of {training.batch_pairs:,} pairs, InfoNCE in both directions at "
        f"temperature {training.temperature:g}, {summary.precision}. Loss {summary.loss_first:.3f} at the first step, "
        f"{summary.loss_last:.3f} at the last.{_second_losses(recipe, teacher)}"
        f" Weights in the files: {weights_of(recipe.export)}.",
        f"## Held-out pairs\n\n{figures}",
        f"## Limits\n\n{_read(pairs)} Near in meaning is not a diagnosis. Words that no source has stay unknown to it.",
    ]
    return "\n\n".join(blocks) + "\n"


def _twin(recipe: ContrastRecipe, pairs: Artifact, before: PairHistory) -> str:
    """Return whether the model knows the held-out concepts, by its own run or by a model before it."""
    if recipe.training.split == "all":
        return (
            "It was trained on every pair, held-out concepts too: it is the model to use. Figures on those concepts would be "
            "meaningless; its twin, trained with `training.split=train`, has them."
        )
    trained, lost = before.trained_on(drawn_categories(pairs)), before.lost
    if not trained and not lost:
        return (
            "It was trained without the held-out concepts of the pair set: it is the twin that gives the figures."
            + (
                f" What {', '.join(f'`{name}`' for name in before.outside)} was trained on before is not known here."
                if before.outside
                else ""
            )
        )
    reasons = [f"`{name}` trained on them" for name in trained]
    reasons += [f"`{name}`, no longer in the store, may have trained on them" for name in lost]
    return (
        "Its own run left out the held-out concepts of the pair set, but the model that it starts from or learns from knows "
        f"them: {', '.join(reasons)}. Figures on them are not those of unseen concepts."
    )


def _second_losses(recipe: ContrastRecipe, teacher: InputEntry | None) -> str:
    """Return a sentence for each loss besides that of the pairs."""
    masked, section = recipe.training.masked_language, recipe.training.teacher
    found = ""
    if masked:
        found += (
            f" A masked-language loss (weight {masked.weight:g}) on {masked.batch_rows:,} rows of {masked.sequence_length:,} "
            f"tokens a step of corpus `{recipe.corpus}` kept its words: the folder has the masked-language head."
        )
    if section and teacher:
        name = model_name(teacher)
        found += f" A second loss (weight {section.weight:g}) drew its similarities to those of the teacher `{name}`."
    return found


def _read(pairs: Artifact) -> str:
    """Return what kind of texts the pairs are, and from which documents they come."""
    texts = [account["texts"] for account in pairs.summary["sources"].values() if account.get("texts")]
    if not texts:
        return "Trained on terms, not on sentences or notes."
    return f"Trained on {'; '.join(texts)} too: share it as these documents may be shared."
