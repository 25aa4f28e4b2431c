"""What a contrastive run starts from: its inputs by content, the encoder, the pairs, and the engine around the model."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from clinical_modernbert.artifacts import Artifact, InputEntry, Store, model_name, open_model, open_store, resolve
from clinical_modernbert.corpus.pairs.read import read_pair_set
from clinical_modernbert.encoder import load_with_new_head
from clinical_modernbert.encoder.limits import max_tokens
from clinical_modernbert.errors import ModelError
from clinical_modernbert.outages import patiently
from clinical_modernbert.recipe import ContrastRecipe
from clinical_modernbert.tokenizer import load_tokenizer
from clinical_modernbert.training.batches import WorkerShare
from clinical_modernbert.training.contrastive.batches import PairBatch, PairSource, joined, with_ids
from clinical_modernbert.training.contrastive.masked_language import load_with_head, open_term
from clinical_modernbert.training.contrastive.step import StepContext
from clinical_modernbert.training.contrastive.teacher import open_teacher
from clinical_modernbert.training.contrastive.text_model import TextModel
from clinical_modernbert.training.engine import TorchEngine
from clinical_modernbert.training.start import TrainJob, weights_digest
from clinical_modernbert.training.worker import Worker, resolve_precision


@dataclass(frozen=True, slots=True)
class ContrastRun:
    """The fixed parts of one worker's run."""

    job: TrainJob
    store: Store
    pairs: Artifact
    initial_model: InputEntry
    """What ``init`` names."""
    teacher: InputEntry | None
    """What ``training.teacher`` names."""
    context: StepContext
    source: PairSource
    held_out: PairBatch | None
    """Held-out pairs that are scored; None if the run trains on all."""
    initial_weights: str
    """Digest of the weights before the first step; empty on other workers than the first."""

    @property
    def recipe(self) -> ContrastRecipe:
        """The recipe."""
        return self.context.recipe

    def read(self, step: int, *, wait: Callable[[float], object]) -> tuple[PairBatch, WorkerShare | None]:
        """Return the pairs of ``step``, and this worker's rows of the masked-language term if there is one.

        ``wait`` may end the patience with a store that is away.
        """
        term = self.context.masked_language
        share = None
        if term:
            share = patiently(partial(term.source.share, step), work="reading training rows", wait=wait)
        return self.source.batch(step), share


def start_contrast(job: TrainJob, worker: Worker) -> ContrastRun:
    """Open the store and the pairs, load the encoder and build its engine. Every worker calls it."""
    recipe = ContrastRecipe.model_validate(job.recipe)
    store, training = open_store(job.store_uri), recipe.training
    pairs = resolve(store, "pairs", recipe.pairs)
    initial = InputEntry.model_validate(job.initial_model)
    encoder = _open_encoder(initial, store, recipe, worker)
    entry, teacher = InputEntry.model_validate(job.teacher) if job.teacher else None, None
    if training.teacher and entry:
        teacher = open_teacher(entry, store, training.teacher, precision=encoder.precision, worker=worker)
    term = open_term(recipe, resolve(store, "corpus", recipe.corpus), encoder, worker) if recipe.corpus else None
    return ContrastRun(
        job=job,
        store=store,
        pairs=pairs,
        initial_model=initial,
        teacher=entry,
        context=StepContext(
            recipe=recipe,
            worker=worker,
            encoder=encoder,
            engine=TorchEngine(encoder.model, optimizer=recipe.optimizer),
            masked_language=term,
            teacher=teacher,
        ),
        source=PairSource(
            read_pair_set(pairs, split=training.split),
            weights=training.weights,
            batch_pairs=training.batch_pairs,
            neighbours=training.neighbours,
            seed=training.seed,
        ),
        held_out=_held_out(pairs, recipe) if training.split == "train" else None,
        initial_weights=weights_digest(encoder.model) if worker.rank == 0 else "",
    )


def _open_encoder(initial: InputEntry, store: Store, recipe: ContrastRecipe, worker: Worker) -> TextModel:
    """Load the encoder to train, with its masked-language head if the recipe trains that too."""
    folder = patiently(partial(open_model, initial, store), work="reading the initial model")
    start, training = model_name(initial), recipe.training
    if training.masked_language:
        model = load_with_head(folder, label=start)
    else:
        model = load_with_new_head(folder, "embedding", label=start, seed=training.seed)
    _check(model, recipe, start)
    return TextModel(
        model=model.to(worker.device).train(),
        tokenizer=load_tokenizer(folder),
        pooling=recipe.vectors.pooling,
        max_tokens=recipe.vectors.max_tokens,
        precision=resolve_precision(training.precision, worker=worker),
        device=worker.device,
    )


def _check(model: Any, recipe: ContrastRecipe, start: str) -> None:
    """Raise ``ModelError`` if the encoder cannot give the vectors that the recipe asks for."""
    limit, width = max_tokens(model), model.config.hidden_size
    if recipe.vectors.max_tokens > limit:
        raise ModelError(f"vectors.max_tokens={recipe.vectors.max_tokens} is beyond the limit of {start}, {limit}")
    too_wide = [dim for dim in recipe.vectors.matryoshka_dims if dim >= width]
    if too_wide:
        raise ModelError(f"vectors.matryoshka_dims={too_wide} must be below the width of {start}, {width}")


def _held_out(pairs: Artifact, recipe: ContrastRecipe) -> PairBatch | None:
    """Return a fixed sample of held-out pairs with distinct positives.

    An anchor may have several of them (a query, a code with two counterparts), of which at most one is nearest to it: recall then
    stays below 1.
    """
    found = read_pair_set(pairs, split="held_out")
    if not found:
        return None
    everything = joined([with_ids(texts) for texts in found.values()])
    order = np.random.default_rng(0).permutation(len(everything))
    _, first = np.unique(everything.positive_texts_N[order], return_index=True)
    return everything.take(order[np.sort(first)[: recipe.held_out.max_pairs]])
