"""What one training worker does, from the first row to the export. Knows nothing of Ray: a worker is a rank and a world size.

The loss of a step is the sum over all masked tokens of the global batch divided by their number, whatever the number of
workers and micro-batches. Rows, masks, rates and learning rate are functions of the step: a restored run needs the step and
the engine's state, no more.
"""

import hashlib
import json
import logging
import math
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch

from clinical_modernbert.artifacts import Artifact, join_key, open_store, resolve
from clinical_modernbert.artifacts.layout import work_prefix
from clinical_modernbert.corpus.shards import PackedRows
from clinical_modernbert.encoder import (
    build_model,
    compile_feed_forward,
    extend_vocabulary,
    global_rope_theta,
    keep_freed_memory,
    load_model,
    set_global_rope_theta,
    use_attention,
)
from clinical_modernbert.errors import ModelError
from clinical_modernbert.masking import Masker, MaskSpan, TokenRanges
from clinical_modernbert.recipe import PretrainRecipe
from clinical_modernbert.recipe.pretrain import OptimizerSection
from clinical_modernbert.tokenizer import load_base, load_tokenizer, ordinary_ids, padded_vocabulary_size, special_ids
from clinical_modernbert.training.batches import BatchSource, WorkerShare
from clinical_modernbert.training.checkpoint import Checkpoints
from clinical_modernbert.training.engine import MaskedLanguageLoss, build_engine
from clinical_modernbert.training.export import summarise, upload_model, weights_digest
from clinical_modernbert.training.flops import step_flops
from clinical_modernbert.training.held_out import score_phase
from clinical_modernbert.training.meter import Meter, peak_flops
from clinical_modernbert.training.phases import Phase, lay_out, phase_at
from clinical_modernbert.training.precision import resolve_precision
from clinical_modernbert.training.schedule import learning_rate
from clinical_modernbert.training.worker import Worker, sum_over_workers

RESULT_NAME = "result.json"
PROGRESS_NAME = "progress.json"

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TrainJob:
    """All a worker must be told; plain values, so that it travels to any node."""

    recipe: dict[str, Any]
    store_uri: str
    run_id: str
    """``<name>-<fingerprint>`` of the model that comes out."""
    corpus_id: str


def token_ranges(tokenizer: Any) -> TokenRanges:
    """Return what masking must know of a tokenizer."""
    roles = special_ids(tokenizer)
    return TokenRanges(
        mask_id=roles["mask"],
        ordinary_ids=ordinary_ids(tokenizer),
        special_ids=torch.tensor(sorted(tokenizer.get_added_vocab().values())).numpy(),
    )


def train_worker(job: TrainJob, worker: Worker) -> None:
    """Train, checkpoint, and on rank 0 upload the export with its result; the caller publishes it."""
    keep_freed_memory()
    recipe = PretrainRecipe.model_validate(job.recipe)
    store = open_store(job.store_uri)
    corpus = resolve(store, "corpus", job.corpus_id)
    tokenizer = load_tokenizer(corpus.folder("tokenizer"))
    model = _initial_model(recipe, tokenizer).to(worker.device)
    initial_weights = weights_digest(model) if worker.rank == 0 else ""
    use_attention(model, recipe.scaling.attention)
    if recipe.scaling.compile:
        compile_feed_forward(model)
    tokens = token_ranges(tokenizer)
    phases = lay_out(recipe)
    num_steps = phases[-1].end_step
    source = _batch_source(recipe, phases, corpus, tokens, worker)
    micro_rows = worker.world_size * phases[0].micro_batch_rows
    precision = resolve_precision(recipe.training.precision, worker=worker)
    engine = build_engine(
        MaskedLanguageLoss(model, precision=precision),
        scaling=recipe.scaling,
        optimizer=recipe.optimizer,
        num_micro_batches=phases[0].batch_rows // micro_rows,
    )
    checkpoints = Checkpoints(
        store=store,
        run_id=job.run_id,
        rank=worker.rank,
        world_size=worker.world_size,
        scaling=recipe.scaling,
        precision=precision,
        keep=recipe.checkpoint.keep,
    )
    done, history = checkpoints.restore(engine)
    if done:
        _logger.info("resuming %s after step %d", job.run_id, done)
    own_theta = global_rope_theta(model)
    progress_key = join_key(work_prefix("model", job.run_id), PROGRESS_NAME)
    meter = Meter(peak=peak_flops(recipe.scaling, worker, precision))
    started = time.perf_counter()
    share = source.share(done) if done < num_steps else None
    wait_s = time.perf_counter() - started
    with ThreadPoolExecutor(max_workers=1) as reader:
        for step in range(done, num_steps):
            assert share is not None
            upcoming: Future[WorkerShare] | None = None
            if step + 1 < num_steps:
                upcoming = reader.submit(source.share, step + 1)  # masks and layouts of the next step, beside this one
            phase = phase_at(phases, step)
            set_global_rope_theta(model, phase.global_rope_theta or own_theta)
            started = time.perf_counter()
            point = _train_step(
                engine, share, step=step, phases=phases, section=recipe.optimizer, masker=source.masker, worker=worker
            )
            point["flops"] = _flops(model, share, worker)
            point["rows"] = hashlib.sha256(share.global_rows_R.tobytes()).hexdigest()[:16]
            point["fill"] = point["tokens"] / (phase.batch_rows * phase.sequence_length)
            step_s = time.perf_counter() - started
            meter.add(num_tokens=point["tokens"], flops=point["flops"], step_s=step_s, wait_s=wait_s)
            last = step + 1 == num_steps
            if step % recipe.logging.every_steps == 0 or last:
                history.append({**point, **meter.read(worker)})
            every = recipe.held_out_loss.every_steps
            if last or (every and (step + 1) % every == 0):
                max_rows = recipe.held_out_loss.max_rows
                figures = score_phase(model, corpus, phase, max_rows=max_rows, tokens=tokens, worker=worker)
                history.append({"step": step, "held_out": figures})
            if worker.rank == 0 and (step % recipe.logging.every_steps == 0 or last):
                seen = {"step": step + 1, "num_steps": num_steps, "history": history}
                store.write_bytes(progress_key, json.dumps(seen).encode())
            if recipe.checkpoint.every_steps and (step + 1) % recipe.checkpoint.every_steps == 0 and not last:
                checkpoints.save(engine, step=step + 1, history=history)
            started = time.perf_counter()
            share = upcoming.result() if upcoming else None
            wait_s = time.perf_counter() - started
    if worker.rank == 0:
        files = upload_model(store, job.run_id, model=model, tokenizer=tokenizer, history=history)
        summary = summarise(model, history, num_steps=num_steps, precision=precision)
        result = {
            "files": files,
            "summary": {**summary, "corpus": job.corpus_id, "initial_weights": initial_weights},
        }
        store.write_bytes(join_key(work_prefix("model", job.run_id), RESULT_NAME), json.dumps(result).encode())


def _initial_model(recipe: PretrainRecipe, tokenizer: Any) -> Any:
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


def _batch_source(
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


def _train_step(
    engine: Any,
    share: WorkerShare,
    *,
    step: int,
    phases: tuple[Phase, ...],
    section: OptimizerSection,
    masker: Masker,
    worker: Worker,
) -> dict[str, Any]:
    counts = torch.tensor(
        [share.num_masked, share.num_tokens, share.num_salient, share.num_salient_masked], dtype=torch.float64
    )
    num_masked, num_tokens, num_salient, num_salient_masked = (int(n) for n in sum_over_workers(counts, worker))
    if num_masked == 0:
        raise ModelError(
            f"step {step}: no token of the global batch was masked; raise training.batch_rows or masking.rate_end"
        )
    loss = torch.zeros((), dtype=torch.float64)
    for batch in share.micro_batches:
        loss += engine.backward(batch, num_masked=num_masked).double().cpu()
    rate = learning_rate(step, phases=phases, section=section)
    norm = engine.step(learning_rate=rate)
    mean_loss = float(sum_over_workers(loss, worker))
    if math.isnan(mean_loss):
        raise ModelError(
            f"step {step}: the loss is not a number; lower optimizer.learning_rate or use precision=float32"
        )
    return {
        "step": step,
        "phase": phase_at(phases, step).number,
        "loss": mean_loss,
        "learning_rate": rate,
        "mask_rate": masker.rate(step),
        "salience_odds": masker.odds(step),
        "gradient_norm": norm,
        "masked": num_masked,
        "tokens": num_tokens,
        "salient": num_salient,
        "salient_masked": num_salient_masked,
    }


def _flops(model: Any, share: WorkerShare, worker: Worker) -> float:
    own = step_flops(model.config, share.lengths_S, num_masked=share.num_masked)
    return float(sum_over_workers(torch.tensor(own, dtype=torch.float64), worker))
