"""The contrastive loop of one worker, from the newest checkpoint to the export. Knows nothing of Ray.

As in pretraining, a step's pairs, rows, masks, learning rate and dropout are functions of the step, so a resumed run needs only
the step and the engine's state. Checkpoints, records and requests to stop are pretraining's. Rollbacks are not covered: a loss
that is not a number ends the run.
"""

import logging
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import UTC, datetime

import torch

from clinical_modernbert.artifacts import model_name
from clinical_modernbert.encoder import keep_freed_memory
from clinical_modernbert.errors import ModelError
from clinical_modernbert.training.checkpoint import Checkpoints, upload_last
from clinical_modernbert.training.checkpoint_shape import CheckpointShape
from clinical_modernbert.training.contrastive.batches import PairBatch
from clinical_modernbert.training.contrastive.export import export_vectors
from clinical_modernbert.training.contrastive.masked_language import score
from clinical_modernbert.training.contrastive.score import score_pairs
from clinical_modernbert.training.contrastive.start import ContrastRun, start_contrast
from clinical_modernbert.training.contrastive.step import StepResult, contrastive_step
from clinical_modernbert.training.records import Records, Stopped
from clinical_modernbert.training.run_progress import Progress, ProgressWriter
from clinical_modernbert.training.schedule import run_learning_rate
from clinical_modernbert.training.start import TrainJob
from clinical_modernbert.training.state import ContrastPoint, HeldOutPoint, Point, RunState, StartPoint
from clinical_modernbert.training.stop_signal import StopRequest
from clinical_modernbert.training.worker import Worker, from_first_worker

_logger = logging.getLogger(__name__)


def contrast_worker(
    job: TrainJob,
    worker: Worker,
    *,
    beat: Callable[[], None] = lambda: None,
    observe: Callable[[Point], None] = lambda point: None,
) -> None:
    """Train to the end, then upload the export and its result on rank 0; the caller publishes it. Every worker calls it."""
    keep_freed_memory()
    run = start_contrast(job, worker)
    records = Records(run.store, job.run_id)
    shape = CheckpointShape(
        engine="torch",
        zero_stage=0,
        num_workers=worker.world_size,
        precision=run.context.encoder.precision,
        model=model_name(run.initial_model),
        tokenizer=run.initial_model.digest[:12],
    )
    checkpoints = Checkpoints(
        store=run.store, run_id=job.run_id, worker=worker, shape=shape, section=run.recipe.checkpoint
    )
    with closing(checkpoints), ExitStack() as stack:
        stop: StopRequest | None = None
        progress: ProgressWriter | None = None
        if worker.rank == 0:
            stop = StopRequest(run.store, job.run_id)
            stack.callback(stop.close)
            progress = ProgressWriter(records)
            stack.callback(progress.close)

        def record(state: RunState, *points: Point) -> None:
            if progress and points:
                for point in points:
                    observe(point)
                progress.write(
                    Progress(step=state.step, num_steps=run.recipe.training.num_steps, history=state.history)
                )

        state = _train(run, checkpoints, stop, beat=beat, record=record)
    beat()
    if worker.rank == 0:
        finished = state.step == run.recipe.training.num_steps
        result = upload_last(lambda: export_vectors(run, state), what="the model") if finished else Stopped(state.step)
        upload_last(lambda: records.write_result(result), what="the result")


def _train(
    run: ContrastRun,
    checkpoints: Checkpoints,
    stop: StopRequest | None,
    *,
    beat: Callable[[], None],
    record: Callable[..., None],
) -> RunState:
    """Train from the newest checkpoint to the end, or to the step after which the run was asked to stop."""
    recipe, context = run.recipe, run.context
    num_steps = recipe.training.num_steps
    checkpoints.check_room(context.engine)
    state = checkpoints.restore(context.engine) or RunState()
    if state.step:
        _logger.info("resuming %s after step %d", run.job.run_id, state.step)
    state = _with(state, StartPoint(step=state.step, started=datetime.now(UTC).isoformat()))
    if not state.step:  # what the encoder knows before: the curve shows what it gains and what it forgets
        state = _with(state, *_held_out(run, -1))
    speed, ending = _Speed(), threading.Event()
    with ThreadPoolExecutor(max_workers=1) as reader, ExitStack() as stack:
        stack.callback(ending.set)  # first of all: the reader may wait for the store
        upcoming = reader.submit(run.read, state.step, wait=ending.wait)
        while state.step < num_steps:
            beat()
            # 1. Take this step's pairs and rows; the reader's thread makes those of the next step during this one.
            step, (batch, rows) = state.step, upcoming.result()
            if step + 1 < num_steps:
                upcoming = reader.submit(run.read, step + 1, wait=ending.wait)
            # 2. Train, and refuse a loss that is not a number.
            started = time.perf_counter()
            rate = run_learning_rate(step, num_steps=num_steps, section=recipe.optimizer)
            result = contrastive_step(context, batch, rows, step=step, learning_rate=rate)
            if not (math.isfinite(result.loss) and math.isfinite(result.gradient_norm)):
                raise ModelError(
                    f"step {step}: the loss or its gradient is not a number; lower optimizer.learning_rate"
                )
            speed.add(len(batch), time.perf_counter() - started)
            # 3. Record what is due, keep what is due, stop if asked to.
            points: list[Point] = []
            if step % recipe.logging.every_steps == 0 or step + 1 == num_steps:
                points.append(_point(step, result, rate, batch=batch, pairs_per_second=speed.read()))
            points += _held_out(run, step)
            state = replace(_with(state, *points), step=step + 1)
            record(state, *points)
            stopping = from_first_worker(bool(stop), context.worker)
            every = recipe.checkpoint.every_steps
            if state.step < num_steps and (stopping or (every and state.step % every == 0)):
                checkpoints.finish()  # one upload at a time
                checkpoints.save(context.engine, state)
            if stopping:
                break
    checkpoints.finish()
    return state


def _point(
    step: int, result: StepResult, learning_rate: float, *, batch: PairBatch, pairs_per_second: float | None
) -> ContrastPoint:
    return ContrastPoint(
        step=step,
        loss=result.loss,
        learning_rate=learning_rate,
        gradient_norm=result.gradient_norm,
        pairs=len(batch),
        tokens=result.tokens,
        pairs_per_second=pairs_per_second,
        pair_loss=result.pair_loss,
        masked_language_loss=result.masked_language_loss,
        teacher_loss=result.teacher_loss,
        rows=batch.digest,
    )


def _held_out(run: ContrastRun, step: int) -> list[Point]:
    """Return the held-out figures if they are due after ``step``; -1 is before the first.

    Workers have equal weights, so each computes all figures of the pairs.
    """
    every, num_steps = run.recipe.held_out.every_steps, run.recipe.training.num_steps
    due = step + 1 in (0, num_steps) or (every and (step + 1) % every == 0)
    context = run.context
    if not due or (run.held_out is None and context.masked_language is None):
        return []
    figures: dict[str, float] = {}
    model = context.encoder.model
    model.eval()
    with torch.inference_mode():
        if run.held_out is not None:
            figures |= score_pairs(context.encoder, run.held_out, temperature=run.recipe.training.temperature)
        if context.masked_language:
            figures |= score(context.masked_language, context.encoder, context.worker)
    model.train()
    return [HeldOutPoint(step=step, held_out=figures)]


def _with(state: RunState, *points: Point) -> RunState:
    return replace(state, history=(*state.history, *points)) if points else state


class _Speed:
    """Pairs a second since the last reading, without the first step of a process, which includes warm-up."""

    def __init__(self) -> None:
        self._pairs, self._seconds, self._warm = 0, 0.0, False

    def add(self, pairs: int, seconds: float) -> None:
        """Count one step."""
        if self._warm:
            self._pairs, self._seconds = self._pairs + pairs, self._seconds + seconds
        self._warm = True

    def read(self) -> float | None:
        """Return the speed, and begin anew."""
        speed = self._pairs / self._seconds if self._seconds else None
        self._pairs, self._seconds = 0, 0.0
        return speed
