"""What one training worker does, from the first row to the export. Knows nothing of Ray: a worker is a rank and a world size.

The loss of a step is the sum over all masked tokens of the global batch divided by their number, whatever the number of
workers and micro-batches. Rows, masks, rates and learning rate are functions of the step: a restored run needs the step and
the engine's state, no more.
"""

import hashlib
import json
import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch

from clinical_modernbert.artifacts import Artifact, Store, join_key, open_store, resolve
from clinical_modernbert.artifacts.layout import work_prefix
from clinical_modernbert.encoder import (
    compile_feed_forward,
    global_rope_theta,
    keep_freed_memory,
    set_global_rope_theta,
    use_attention,
)
from clinical_modernbert.errors import ModelError
from clinical_modernbert.masking import Masker, TokenRanges, token_ranges
from clinical_modernbert.recipe import PretrainRecipe
from clinical_modernbert.recipe.pretrain import OptimizerSection
from clinical_modernbert.tokenizer import load_tokenizer
from clinical_modernbert.training.batches import BatchSource, WorkerShare
from clinical_modernbert.training.card import model_card
from clinical_modernbert.training.checkpoint import Checkpoints, RunState
from clinical_modernbert.training.engine import Engine, MaskedLanguageLoss, build_engine
from clinical_modernbert.training.export import summarise, upload_model, weights_digest
from clinical_modernbert.training.flops import step_flops
from clinical_modernbert.training.held_out import score_phase
from clinical_modernbert.training.meter import Meter, peak_flops
from clinical_modernbert.training.phases import Phase, lay_out, phase_at
from clinical_modernbert.training.precision import resolve_precision
from clinical_modernbert.training.schedule import learning_rate
from clinical_modernbert.training.spikes import skipped_batches, verdict
from clinical_modernbert.training.start import batch_source, initial_model
from clinical_modernbert.training.stop_signal import StopRequest
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
    launch: str = ""
    """Tells attempts at one run apart that different drivers started."""


@dataclass(frozen=True, slots=True)
class Signals:
    """What workers tell each other with the counts of a step, so that all act after the same one."""

    uploaded: bool
    """A pending checkpoint's upload has ended: on this worker, or on all of them."""
    stop: bool
    """The run was asked to stop."""


def train_worker(
    job: TrainJob,
    worker: Worker,
    *,
    beat: Callable[[], None] = lambda: None,
    observe: Callable[[dict[str, Any]], None] = lambda point: None,
) -> None:
    """Train, checkpoint, and on rank 0 upload the export with its result; the caller publishes it.

    ``beat`` is called before each step, ``observe`` with each point that rank 0 records. A run that was asked to stop leaves
    ``stopped_after`` as its result. Every worker calls it.
    """
    keep_freed_memory()
    recipe = PretrainRecipe.model_validate(job.recipe)
    store = open_store(job.store_uri)
    corpus = resolve(store, "corpus", job.corpus_id)
    tokenizer = load_tokenizer(corpus.folder("tokenizer"))
    model = initial_model(recipe, tokenizer).to(worker.device)
    initial_weights = weights_digest(model) if worker.rank == 0 else ""
    use_attention(model, recipe.scaling.attention)
    if recipe.scaling.compile:
        compile_feed_forward(model)
    tokens = token_ranges(tokenizer)
    phases = lay_out(recipe)
    precision = resolve_precision(recipe.training.precision, worker=worker)
    engine = build_engine(
        MaskedLanguageLoss(model, precision=precision),
        scaling=recipe.scaling,
        optimizer=recipe.optimizer,
        num_micro_batches=phases[0].batch_rows // (worker.world_size * phases[0].micro_batch_rows),
    )
    checkpoints = Checkpoints(
        store=store,
        run_id=job.run_id,
        worker=worker,
        scaling=recipe.scaling,
        precision=precision,
        section=recipe.checkpoint,
    )
    training = _Training(
        recipe=recipe,
        job=job,
        worker=worker,
        store=store,
        corpus=corpus,
        tokens=tokens,
        phases=phases,
        source=batch_source(recipe, phases, corpus, tokens, worker),
        model=model,
        own_theta=global_rope_theta(model),
        engine=engine,
        checkpoints=checkpoints,
        meter=Meter(peak=peak_flops(recipe.scaling, worker, precision)),
        beat=beat,
        observe=observe,
    )
    result_key = join_key(work_prefix("model", job.run_id), RESULT_NAME)
    with closing(checkpoints):
        state = training.run(checkpoints.restore(engine))
        beat()
        if state.step < training.num_steps:
            if worker.rank == 0:
                store.write_bytes(result_key, json.dumps({"stopped_after": state.step}).encode())
            return
        exported = training.choose_export(state)
    if worker.rank == 0:
        figures = summarise(model, state.history, num_steps=training.num_steps, precision=precision)
        known = {
            "exported_step": exported.step,
            "held_out": exported.held_out,
            "rollbacks": len(state.skips),
            "corpus": job.corpus_id,
            "initial_weights": initial_weights,
        }
        summary = {**figures, **known}
        card = model_card(job.run_id, recipe, corpus, summary)
        files = upload_model(store, job.run_id, model=model, tokenizer=tokenizer, history=state.history, card=card)
        store.write_bytes(result_key, json.dumps({"files": files, "summary": summary}).encode())


@dataclass(frozen=True, slots=True)
class _Training:
    """One worker's run: what its steps need, and the steps."""

    recipe: PretrainRecipe
    job: TrainJob
    worker: Worker
    store: Store
    corpus: Artifact
    tokens: TokenRanges
    phases: tuple[Phase, ...]
    source: BatchSource
    model: Any
    own_theta: float
    engine: Engine
    checkpoints: Checkpoints
    meter: Meter
    beat: Callable[[], None]
    observe: Callable[[dict[str, Any]], None]

    @property
    def num_steps(self) -> int:
        return self.phases[-1].end_step

    def run(self, state: RunState) -> RunState:
        """Train from ``state`` to the end, or to the step after which the run was asked to stop."""
        if state.step:
            _logger.info("resuming %s after step %d", self.job.run_id, state.step)
        note = {"step": state.step, "started": datetime.now(UTC).isoformat()}
        state = replace(state, history=[*state.history, note])
        stop = StopRequest(self.store, self.job.run_id) if self.worker.rank == 0 else None
        try:
            with ThreadPoolExecutor(max_workers=1) as reader:
                return self._steps(state, reader, stop)
        finally:
            if stop:
                stop.close()

    def _steps(self, state: RunState, reader: ThreadPoolExecutor, stop: StopRequest | None) -> RunState:
        upcoming = self._read(reader, state)
        while upcoming:
            self.beat()
            started = time.perf_counter()
            share = upcoming.result()
            wait_s = time.perf_counter() - started
            # Masks and layouts of the next step, beside this one.
            upcoming = self._read(reader, replace(state, step=state.step + 1))
            phase = phase_at(self.phases, state.step)
            set_global_rope_theta(self.model, phase.global_rope_theta or self.own_theta)
            # Dropout, where a checkpoint's config has some, is a function of the step like all else.
            torch.manual_seed(step_seed(self.recipe.training.seed, state.step, self.worker.rank))
            started = time.perf_counter()
            point, signals = _train_step(
                self.engine,
                share,
                step=state.step,
                phases=self.phases,
                section=self.recipe.optimizer,
                masker=self.source.masker,
                worker=self.worker,
                signals=Signals(uploaded=self.checkpoints.uploaded, stop=bool(stop)),
            )
            step_s = time.perf_counter() - started
            reason = verdict(point, state.recent_losses, self.recipe.stability)
            if reason:
                state = self._roll_back(state, reason)
                upcoming = self._read(reader, state)
                continue
            point["flops"] = _flops(self.model, share, self.worker)
            point["rows"] = hashlib.sha256(share.global_rows_R.tobytes()).hexdigest()[:16]
            point["fill"] = point["tokens"] / (phase.batch_rows * phase.sequence_length)
            self.meter.add(num_tokens=point["tokens"], flops=point["flops"], step_s=step_s, wait_s=wait_s)
            state = self._record(state, point, phase)
            if signals.uploaded:
                self.checkpoints.finish()
            last = state.step == self.num_steps
            every = self.recipe.checkpoint.every_steps
            if not last and (signals.stop or (every and state.step % every == 0)):
                self.checkpoints.finish()  # one upload at a time
                self.checkpoints.save(self.engine, state)
            if signals.stop and not last:
                break
        self.checkpoints.finish()
        return state

    def _read(self, reader: ThreadPoolExecutor, state: RunState) -> Future[WorkerShare] | None:
        if state.step >= self.num_steps:
            return None
        return reader.submit(self.source.share, state.step, skipped=skipped_batches(state.step, state.skips))

    def _record(self, state: RunState, point: dict[str, Any], phase: Phase) -> RunState:
        """Return the state after a step, with what is due of its figures in the history."""
        step, recipe, new = state.step, self.recipe, []
        last = step + 1 == self.num_steps
        logged = step % recipe.logging.every_steps == 0 or last
        if logged:
            new.append({**point, **self.meter.read(self.worker)})
        every = recipe.held_out_loss.every_steps
        if last or (every and (step + 1) % every == 0):
            figures = score_phase(
                self.model,
                self.corpus,
                phase,
                max_rows=recipe.held_out_loss.max_rows,
                tokens=self.tokens,
                worker=self.worker,
            )
            new.append({"step": step, "held_out": figures})
        state = replace(
            state,
            step=step + 1,
            history=[*state.history, *new] if new else state.history,
            recent_losses=[*state.recent_losses, point["loss"]][-recipe.stability.window_steps :],
        )
        if self.worker.rank == 0 and new:
            for item in new:
                self.observe(item)
            seen = {"step": state.step, "num_steps": self.num_steps, "history": state.history}
            key = join_key(work_prefix("model", self.job.run_id), PROGRESS_NAME)
            self.store.write_bytes(key, json.dumps(seen).encode())
        return state

    def _roll_back(self, state: RunState, reason: str) -> RunState:
        """Return the newest checkpoint's state, which leaves out the batches since then; or end the run, by the rule."""
        section, step = self.recipe.stability, state.step
        if section.action == "stop":
            raise ModelError(
                f"step {step}: {reason}; lower optimizer.learning_rate, use training.precision=float32, or set "
                "stability.action=roll_back"
            )
        if len(state.skips) >= section.max_rollbacks:
            raise ModelError(f"step {step}: {reason}, after stability.max_rollbacks={section.max_rollbacks} rollbacks")
        self.checkpoints.finish()
        found = self.checkpoints.restore(self.engine)
        if not found.step:
            raise ModelError(f"step {step}: {reason}, and there is no checkpoint yet to go back to")
        _logger.warning("step %d: %s; back to the checkpoint after step %d", step, reason, found.step)
        skip = (found.step, step + 1 - found.step)
        note = {"step": step, "rolled_back_to": found.step, "reason": reason}
        return replace(found, skips=(*state.skips, skip), history=[*found.history, note])

    def choose_export(self, state: RunState) -> RunState:
        """Put the weights that the recipe exports into the model, and return the state they belong to."""
        if self.recipe.training.export == "last":
            return state
        best = self.checkpoints.restore_best(self.engine, below=state.held_out.get("uniform_loss"))
        if best is None:
            return state
        phase = phase_at(self.phases, best.step - 1)
        set_global_rope_theta(self.model, phase.global_rope_theta or self.own_theta)
        return best


def _train_step(
    engine: Engine,
    share: WorkerShare,
    *,
    step: int,
    phases: tuple[Phase, ...],
    section: OptimizerSection,
    masker: Masker,
    worker: Worker,
    signals: Signals,
) -> tuple[dict[str, Any], Signals]:
    """Train one step; return its figures and what all workers together say."""
    own = [share.num_masked, share.num_tokens, share.num_salient, share.num_salient_masked]
    counts = torch.tensor([*own, signals.uploaded, signals.stop], dtype=torch.float64)
    sums = [int(n) for n in sum_over_workers(counts, worker)]
    num_masked, num_tokens, num_salient, num_salient_masked, num_uploaded, num_stop = sums
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
    point = {
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
    return point, Signals(uploaded=num_uploaded == worker.world_size, stop=num_stop > 0)


def step_seed(seed: int, step: int, rank: int) -> int:
    """Return the seed of a step's own random numbers on one worker."""
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0])


def _flops(model: Any, share: WorkerShare, worker: Worker) -> float:
    own = step_flops(model.config, share.lengths_S, num_masked=share.num_masked)
    return float(sum_over_workers(torch.tensor(own, dtype=torch.float64), worker))
