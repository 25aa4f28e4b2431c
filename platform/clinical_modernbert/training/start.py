"""What a run starts from: the model before its first step, and the training rows."""

from typing import Any

from clinical_modernbert.artifacts import Artifact
from clinical_modernbert.corpus.shards import PackedRows
from clinical_modernbert.encoder import build_model, extend_vocabulary, load_model
from clinical_modernbert.errors import ModelError
from clinical_modernbert.masking import Masker, MaskSpan, TokenRanges
from clinical_modernbert.recipe import PretrainRecipe
from clinical_modernbert.tokenizer import load_base, padded_vocabulary_size, special_ids
from clinical_modernbert.training.batches import BatchSource
from clinical_modernbert.training.phases import Phase
from clinical_modernbert.training.worker import Worker


def initial_model(recipe: PretrainRecipe, tokenizer: Any) -> Any:
    """Return the model before its first step: with fresh weights, or from a checkpoint with the tokenizer's new rows."""
    size = padded_vocabulary_size(tokenizer)
    if recipe.model.init == "scratch":
        return build_model(
            recipe.model, vocabulary_size=size, special_ids=special_ids(tokenizer), seed=recipe.training.seed
        )
    model = load_model(recipe.model.init)
    # Read from the checkpoint, not from the recipe: behind its end positions were never trained.
    longest = max(phase.sequence_length for phase in recipe.training.resolved_phases)
    if longest > model.config.max_position_embeddings:
        raise ModelError(
            f"{recipe.model.init} takes segments of up to {model.config.max_position_embeddings} tokens, "
            f"training.sequence_length is {longest}"
        )
    extend_vocabulary(model, load_base(recipe.model.init), tokenizer)
    return model


def batch_source(
    recipe: PretrainRecipe, phases: tuple[Phase, ...], corpus: Artifact, tokens: TokenRanges, worker: Worker
) -> BatchSource:
    """Open the training rows of every phase before the first step: a missing length must not show after days."""
    rows = {}
    for phase in phases:
        found = PackedRows(corpus, row_length=phase.sequence_length, split="train")
        if not len(found):
            raise ModelError(f"{corpus.uri} has no training rows of {phase.sequence_length} tokens")
        rows[phase.sequence_length] = found
    spans = tuple(
        MaskSpan(phase.first_step, phase.end_step, rate=phase.section.mask_rate, odds=phase.section.salience_odds)
        for phase in phases
    )
    seed = recipe.training.seed
    return BatchSource(
        phases=phases,
        rows=rows,
        seed=seed,
        masker=Masker(recipe.masking, tokens, num_steps=phases[-1].end_step, seed=seed, spans=spans),
        rank=worker.rank,
        world_size=worker.world_size,
        device=worker.device,
    )
