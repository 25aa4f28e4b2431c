"""The masked-language term of a contrastive run: pretraining's rows, masks and loss on the same encoder.

A step's rows and masks are functions of (seed, step), and the loss is the mean over the masked tokens of the global batch, as in
pretraining. So the term is the same for every number of workers and after a resume.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from clinical_modernbert.artifacts import Artifact
from clinical_modernbert.encoder import load_model, masked_loss_sum, products_in
from clinical_modernbert.errors import ModelError
from clinical_modernbert.masking import Masker, token_ranges
from clinical_modernbert.outages import patiently
from clinical_modernbert.recipe import ContrastRecipe
from clinical_modernbert.recipe.batch_course import BatchCourse
from clinical_modernbert.recipe.contrast import MaskedLanguageSection
from clinical_modernbert.recipe.phases import PhaseSection
from clinical_modernbert.tokenizer import load_tokenizer
from clinical_modernbert.training.batches import BatchSource, TrainingRows, WorkerShare
from clinical_modernbert.training.contrastive.text_model import TextModel
from clinical_modernbert.training.held_out import Scoring, score_corpus
from clinical_modernbert.training.mixture import BLOCK, Mixture
from clinical_modernbert.training.phases import Phase
from clinical_modernbert.training.worker import Worker, sum_over_workers


@dataclass(frozen=True, slots=True)
class MaskedLanguageTerm:
    """The rows of the term and its weight."""

    section: MaskedLanguageSection
    corpus: Artifact
    source: BatchSource
    """Rows and masks of each step, as one phase over the whole run."""


def load_with_head(folder: Path, *, label: str) -> Any:
    """Return a ModernBERT with its masked-language head; ``label`` names it in the ``ModelError`` of any other model."""
    try:
        model = load_model(folder, label=label)
    except ModelError as error:
        raise ModelError(
            f"training.masked_language needs a ModernBERT with its masked-language head as init: {error}"
        ) from None
    if model.decoder.bias is None:
        raise ModelError(f"{label} has decoder_bias=false in its config.json; training.masked_language needs true")
    return model


def open_term(recipe: ContrastRecipe, corpus: Artifact, encoder: TextModel, worker: Worker) -> MaskedLanguageTerm:
    """Open the training rows; raises ``ModelError`` if the encoder or its tokenizer does not fit them."""
    section = recipe.training.masked_language
    assert section is not None, "called for a recipe with the term"
    _check(encoder, corpus, section)
    name = corpus.manifest.id
    phase = Phase(
        number=0,
        section=PhaseSection(sequence_length=section.sequence_length, num_steps=recipe.training.num_steps),
        first_step=0,
        num_steps=recipe.training.num_steps,
        course=BatchCourse(section.batch_rows),
        micro_batch_rows=min(recipe.scaling.micro_batch_rows, section.batch_rows // worker.world_size),
        mixture=Mixture((name,), block_rows=(BLOCK,), first_rows=(0,)),
        global_rope_theta=None,
    )
    opened = partial(TrainingRows.open, {name: corpus}, row_length=section.sequence_length)
    rows = patiently(opened, work="opening training rows")
    tokens, seed = token_ranges(encoder.tokenizer), recipe.training.seed
    source = BatchSource(
        phases=(phase,),
        rows={section.sequence_length: rows},
        seed=seed,
        masker=Masker(section.masking, tokens, num_steps=phase.num_steps, seed=seed),
        rank=worker.rank,
        world_size=worker.world_size,
        device=worker.device,
    )
    return MaskedLanguageTerm(section, corpus, source)


def _check(encoder: TextModel, corpus: Artifact, section: MaskedLanguageSection) -> None:
    longest = encoder.model.config.max_position_embeddings
    if section.sequence_length > longest:
        raise ModelError(
            f"training.masked_language.sequence_length={section.sequence_length} is beyond the limit of init, {longest}"
        )
    of_corpus = load_tokenizer(patiently(partial(corpus.folder, "tokenizer"), work="reading the corpus's tokenizer"))
    if of_corpus.get_vocab() != encoder.tokenizer.get_vocab():
        raise ModelError(
            f"corpus={corpus.manifest.id} has another tokenizer than init: build the corpus with tokenizer.base set to that "
            "encoder, or leave training.masked_language out"
        )


def add_gradient(term: MaskedLanguageTerm, encoder: TextModel, share: WorkerShare, worker: Worker) -> float:
    """Add the weighted gradient of this worker's rows; return the unweighted loss of the global batch in nats.

    Every worker calls it.
    """
    counts = torch.tensor(float(share.num_masked), dtype=torch.float64)
    num_masked = int(sum_over_workers(counts, worker))
    if not num_masked:
        raise ModelError("no token of the global batch was masked; raise training.masked_language.batch_rows")
    loss = torch.zeros((), dtype=torch.float64)
    for batch in share.micro_batches:
        with products_in(encoder.precision, worker.device):
            part = masked_loss_sum(encoder.model, batch) / num_masked
        (term.section.weight * part).backward()
        loss += part.detach().double().cpu()
    return float(sum_over_workers(loss, worker))


def score(term: MaskedLanguageTerm, encoder: TextModel, worker: Worker) -> dict[str, float]:
    """Return loss and accuracy on held-out rows under both frozen masks. Every worker calls it."""
    scoring = Scoring(term.section.max_held_out_rows, term.source.masker.tokens, worker, encoder.precision)
    phase = term.source.phases[0]
    return score_corpus(
        encoder.model, term.corpus, scoring, row_length=phase.sequence_length, batch_rows=phase.micro_batch_rows
    ).overall
