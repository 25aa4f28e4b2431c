"""What a run starts from: its job, the model before the first step, the training rows, and the engine around the model."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from clinical_modernbert.artifacts import Artifact, InputEntry, Store, open_model, open_store
from clinical_modernbert.encoder import (
    PACKED_SDPA,
    Precision,
    build_model,
    compile_feed_forward,
    extend_vocabulary,
    global_rope_theta,
    load_model,
    train_by_fastest,
    use_attention,
)
from clinical_modernbert.errors import ModelError
from clinical_modernbert.masking import Masker, MaskSpan, TokenRanges, token_ranges
from clinical_modernbert.outages import patiently
from clinical_modernbert.recipe import PretrainRecipe
from clinical_modernbert.recipe.section import RecipeValues
from clinical_modernbert.tokenizer import load_base, load_tokenizer, padded_vocabulary_size, special_ids
from clinical_modernbert.training.batches import BatchSource, TrainingRows
from clinical_modernbert.training.checkpoint_model import check_checkpoint
from clinical_modernbert.training.code_probe import CodeProbe, build_probe
from clinical_modernbert.training.corpora import open_corpora
from clinical_modernbert.training.engine import Engine, MaskedLanguageLoss, build_engine
from clinical_modernbert.training.phases import Phase, lay_out
from clinical_modernbert.training.worker import Worker, resolve_precision


@dataclass(frozen=True, slots=True)
class TrainJob:
    """What the driver sends to each worker: plain values, because Ray sends them to other nodes."""

    recipe: RecipeValues
    """The recipe as JSON values; the worker validates it again."""
    store_uri: str
    run_id: str
    """``<name>-<fingerprint>`` of the model."""
    initial_model: dict[str, str] | None = None
    """The model that the run starts from, as JSON values of an input; None from scratch."""
    continued_state: dict[str, str] | None = None
    """The input that ``training.continue_from`` names, as JSON values."""
    teacher: dict[str, str] | None = None
    """The input that ``training.teacher.model`` names, as JSON values."""
    launch: str = ""
    """Distinguishes launches of one run."""
    signed: bool = False
    """Whether the driver has the key that signs training state: a worker without it must not write unsigned state."""


@dataclass(frozen=True, slots=True)
class Run:
    """The fixed parts of one worker's run. What changes from step to step is a ``RunState``."""

    job: TrainJob
    recipe: PretrainRecipe
    worker: Worker
    store: Store
    corpora: dict[str, Artifact]
    """By id, as the phases' mixtures name them; the first one has the run's tokenizer."""
    tokenizer: Any
    source: BatchSource
    model: Any
    rope_theta: float
    """RoPE base of the model's global layers, for phases that set none."""
    precision: Precision
    engine: Engine
    probe: CodeProbe | None
    """Codes whose neighbours are measured at each evaluation."""
    initial_model: InputEntry | None
    """What ``model.init`` names; None from scratch."""
    continued_state: InputEntry | None
    """What ``training.continue_from`` names."""
    initial_weights: str
    """Digest of the weights before the first step, or of the state that the run continues; on rank 0 only."""

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The phases over all steps."""
        return self.source.phases

    @property
    def num_steps(self) -> int:
        """Steps of the whole run."""
        return self.phases[-1].end_step


def start_run(job: TrainJob, worker: Worker) -> Run:
    """Open the store and the rows, build the model and its engine. Every worker calls it."""
    recipe = PretrainRecipe.model_validate(job.recipe)
    store = open_store(job.store_uri)
    corpora = open_corpora(recipe, store)
    tokenizer = load_tokenizer(corpora[recipe.corpus].folder("tokenizer"))
    # A loaded checkpoint is in evaluation mode: its dropout would be off.
    initial = InputEntry.model_validate(job.initial_model) if job.initial_model else None
    checkpoint = patiently(partial(open_model, initial, store), work="reading the initial model") if initial else None
    model = initial_model(recipe, tokenizer, checkpoint=checkpoint).to(worker.device).train()
    initial_weights = ""
    if worker.rank == 0:
        initial_weights = job.continued_state["digest"] if job.continued_state else weights_digest(model)
    precision = resolve_precision(recipe.training.precision, worker=worker)
    _check_attention(recipe.scaling.attention, precision)
    use_attention(model, recipe.scaling.attention)
    train_by_fastest(model)
    if recipe.scaling.activation_checkpointing:
        model.activation_checkpointing_enable()
    if recipe.scaling.compile:
        compile_feed_forward(model)
    phases, codes = lay_out(recipe), recipe.held_out_loss.codes
    engine = build_engine(
        MaskedLanguageLoss(model, precision=precision),
        scaling=recipe.scaling,
        optimizer=recipe.optimizer,
        num_micro_batches=phases[0].course.full // (worker.world_size * phases[0].micro_batch_rows),
    )
    return Run(
        job=job,
        recipe=recipe,
        worker=worker,
        store=store,
        corpora=corpora,
        tokenizer=tokenizer,
        source=batch_source(recipe, phases, corpora, token_ranges(tokenizer), worker),
        model=model,
        rope_theta=global_rope_theta(model),
        precision=precision,
        engine=engine,
        probe=build_probe(codes, tokenizer, max_tokens=model.config.max_position_embeddings) if codes else None,
        initial_model=initial,
        continued_state=InputEntry.model_validate(job.continued_state) if job.continued_state else None,
        initial_weights=initial_weights,
    )


def _check_attention(attention: str, precision: Precision) -> None:
    if attention != PACKED_SDPA and precision != "bfloat16":
        raise ModelError(
            f"scaling.attention={attention} needs bfloat16, and training.precision=auto is {precision} on these workers: "
            f"use GPUs from A100 on, or scaling.attention={PACKED_SDPA}"
        )


def initial_model(recipe: PretrainRecipe, tokenizer: Any, *, checkpoint: Path | None = None) -> Any:
    """Return the model before its first step: with fresh weights, or of a checkpoint's folder with rows for new tokens."""
    size = padded_vocabulary_size(tokenizer)
    if checkpoint is None:
        return build_model(
            recipe.model, vocabulary_size=size, special_ids=special_ids(tokenizer), seed=recipe.training.seed
        )
    model = load_model(checkpoint)
    check_checkpoint(model, recipe)
    extend_vocabulary(model, load_base(str(checkpoint), field="model.init"), tokenizer)
    return model


def weights_digest(model: Any) -> str:
    """Return sha256 over the parameters' names and bytes, which shows that compared runs start from equal weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.named_parameters()):
        digest.update(name.encode())
        digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def batch_source(
    recipe: PretrainRecipe,
    phases: tuple[Phase, ...],
    corpora: Mapping[str, Artifact],
    tokens: TokenRanges,
    worker: Worker,
) -> BatchSource:
    """Open the training rows of every phase before the first step, so that a missing length is an error at once."""
    rows = {}
    for length in {phase.sequence_length for phase in phases}:
        named = [name for phase in phases if phase.sequence_length == length for name in phase.mixture.corpora]
        rows[length] = TrainingRows.open({name: corpora[name] for name in named}, row_length=length)
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
