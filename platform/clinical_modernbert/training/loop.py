"""What one training worker does, from the first row to the export. Knows nothing of Ray: a worker is a rank and a world size.

The loss of a step is the sum over all masked tokens of the global batch divided by their number, whatever the number of
workers and micro-batches. Rows, masks, rates and learning rate are functions of the step: a restored run needs the step and
the engine's state, no more.
"""

import hashlib
import json
import logging
import math
import tempfile
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from clinical_modernbert.artifacts import Artifact, join_key, open_store, resolve, upload, upload_folder
from clinical_modernbert.artifacts.layout import artifact_prefix, work_prefix
from clinical_modernbert.corpus.shards import PackedRows
from clinical_modernbert.encoder import (
    build_model,
    compile_feed_forward,
    extend_vocabulary,
    global_rope_theta,
    keep_freed_memory,
    load_model,
    num_parameters,
    set_global_rope_theta,
    use_attention,
)
from clinical_modernbert.errors import ModelError
from clinical_modernbert.masking import Masker, MaskSpan, TokenRanges
from clinical_modernbert.recipe import PretrainRecipe
from clinical_modernbert.recipe.pretrain import OptimizerSection
from clinical_modernbert.tokenizer import load_base, load_tokenizer, ordinary_ids, padded_vocabulary_size, special_ids
from clinical_modernbert.training.batches import BatchSource, WorkerShare, row_chunks
from clinical_modernbert.training.checkpoint import Checkpoints, History
from clinical_modernbert.training.engine import MaskedLanguageLoss, build_engine
from clinical_modernbert.training.flops import step_flops
from clinical_modernbert.training.phases import Phase, lay_out, phase_at
from clinical_modernbert.training.precision import resolve_precision
from clinical_modernbert.training.schedule import learning_rate
from clinical_modernbert.training.scoring import score_rows
from clinical_modernbert.training.worker import Worker

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
    meter = _Meter()
    share = source.share(done) if done < num_steps else None
    with ThreadPoolExecutor(max_workers=1) as reader:
        for step in range(done, num_steps):
            assert share is not None
            upcoming: Future[WorkerShare] | None = None
            if step + 1 < num_steps:
                upcoming = reader.submit(source.share, step + 1)  # masks and layouts of the next step, beside this one
            phase = phase_at(phases, step)
            set_global_rope_theta(model, phase.global_rope_theta or own_theta)
            point = _train_step(
                engine, share, step=step, phases=phases, section=recipe.optimizer, masker=source.masker, worker=worker
            )
            point["flops"] = _flops(model, share, worker)
            point["rows"] = hashlib.sha256(share.global_rows_R.tobytes()).hexdigest()[:16]
            meter.add(point["tokens"])
            last = step + 1 == num_steps
            if step % recipe.logging.every_steps == 0 or last:
                history.append({**point, "tokens_per_second": meter.tokens_per_second()})
            every = recipe.held_out_loss.every_steps
            if last or (every and (step + 1) % every == 0):
                history.append({"step": step, "held_out": _held_out(model, corpus, phase, recipe, tokens, worker)})
                meter.restart()
            if worker.rank == 0 and (step % recipe.logging.every_steps == 0 or last):
                seen = {"step": step + 1, "num_steps": num_steps, "history": history}
                store.write_bytes(progress_key, json.dumps(seen).encode())
            if recipe.checkpoint.every_steps and (step + 1) % recipe.checkpoint.every_steps == 0 and not last:
                checkpoints.save(engine, step=step + 1, history=history)
                meter.restart()
            share = upcoming.result() if upcoming else None
    if worker.rank == 0:
        _export(job, num_steps, precision, model, tokenizer, history, initial_weights=initial_weights)


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
    num_masked, num_tokens, num_salient, num_salient_masked = (int(n) for n in _sum_over_workers(counts, worker))
    if num_masked == 0:
        raise ModelError(
            f"step {step}: no token of the global batch was masked; raise training.batch_rows or masking.rate_end"
        )
    loss = torch.zeros((), dtype=torch.float64)
    for batch in share.micro_batches:
        loss += engine.backward(batch, num_masked=num_masked).double().cpu()
    rate = learning_rate(step, phases=phases, section=section)
    norm = engine.step(learning_rate=rate)
    mean_loss = float(_sum_over_workers(loss, worker))
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


def _sum_over_workers(values: torch.Tensor, worker: Worker) -> torch.Tensor:
    if worker.world_size > 1:
        values = values.to(worker.device)
        dist.all_reduce(values)
    return values


def _held_out(
    model: Any, corpus: Artifact, phase: Phase, recipe: PretrainRecipe, tokens: TokenRanges, worker: Worker
) -> dict[str, float]:
    """Score the first ``max_rows`` held-out rows of the phase's length, spread over the workers; the same at every call."""
    rows = PackedRows(corpus, row_length=phase.sequence_length, split="held_out")
    chunks = list(row_chunks(min(len(rows), recipe.held_out_loss.max_rows), size=phase.micro_batch_rows))
    figures = {}
    for kind in ("uniform", "entity"):
        found = score_rows(model, rows, chunks[worker.rank :: worker.world_size], kind=kind, tokens=tokens)  # type: ignore[arg-type]
        hits = float((found.ranks_N < 1).sum())
        sums = torch.tensor([found.losses_N.sum(), hits, len(found.labels_N)], dtype=torch.float64)
        loss_sum, hits, count = _sum_over_workers(sums, worker).tolist()
        if count:
            figures[f"{kind}_loss"] = loss_sum / count
            figures[f"{kind}_top1"] = hits / count
    return figures


class _Meter:
    """Useful tokens a second since the last restart; the first step after it is left out, for it pays for warm-up."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self._tokens = 0
        self._since: float | None = None

    def add(self, num_tokens: int) -> None:
        if self._since is None:
            self._since = time.perf_counter()
        else:
            self._tokens += num_tokens

    def tokens_per_second(self) -> float | None:
        if self._since is None or not self._tokens:
            return None
        return self._tokens / (time.perf_counter() - self._since)


def weights_digest(model: Any) -> str:
    """Return sha256 over the parameters' names and bytes: runs that are compared start from the same ones."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.named_parameters()):
        digest.update(name.encode())
        digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _flops(model: Any, share: WorkerShare, worker: Worker) -> float:
    own = step_flops(model.config, share.lengths_S, num_masked=share.num_masked)
    return float(_sum_over_workers(torch.tensor(own, dtype=torch.float64), worker))


def _export(
    job: TrainJob,
    num_steps: int,
    precision: str,
    model: Any,
    tokenizer: Any,
    history: History,
    *,
    initial_weights: str,
) -> None:
    """Upload a folder that AutoModelForMaskedLM and AutoTokenizer load, the curves, and the result for the launcher."""
    store = open_store(job.store_uri)
    prefix = artifact_prefix("model", job.run_id)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model.save_pretrained(folder / "model", safe_serialization=True)
        tokenizer.save_pretrained(folder / "model")
        entries = upload_folder(store, prefix, folder / "model", below="model")
        (folder / "history.json").write_text(json.dumps(history), encoding="utf-8")
        entries.append(upload(store, prefix, "history.json", folder / "history.json"))
    steps = [point for point in history if "loss" in point]
    losses = [point["loss"] for point in steps]
    speeds = [point["tokens_per_second"] for point in history if point.get("tokens_per_second")]
    summary = {
        "num_parameters": num_parameters(model),
        "num_steps": num_steps,
        "precision": precision,
        "loss_first": losses[0],
        "loss_last": losses[-1],
        "tokens_per_second": sorted(speeds)[len(speeds) // 2] if speeds else None,
        "held_out": next((point["held_out"] for point in reversed(history) if "held_out" in point), {}),
        "corpus": job.corpus_id,
        "initial_weights": initial_weights,
        "row_order": hashlib.sha256("".join(point["rows"] for point in steps).encode()).hexdigest(),
        "training_flops": num_steps * sum(point["flops"] for point in steps) / len(steps),
    }
    result = {"files": [entry.model_dump() for entry in entries], "summary": summary}
    store.write_bytes(join_key(work_prefix("model", job.run_id), RESULT_NAME), json.dumps(result).encode())
