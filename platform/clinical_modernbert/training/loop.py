"""The training loop of one worker, from the newest checkpoint to the export. Knows nothing of Ray.

Rows, masks, mask rate and learning rate are functions of the step. So a resumed run needs only the step and the engine's state,
and gives the losses of an unbroken one.
"""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

import torch

from clinical_modernbert.artifacts import FileEntry, open_state
from clinical_modernbert.encoder import keep_freed_memory, products_in, set_global_rope_theta
from clinical_modernbert.errors import ModelError
from clinical_modernbert.outages import patiently
from clinical_modernbert.training.batches import WorkerShare
from clinical_modernbert.training.checkpoint import Checkpoints, load_state, upload_last
from clinical_modernbert.training.checkpoint_shape import checkpoint_shape
from clinical_modernbert.training.export import export_model, load_export
from clinical_modernbert.training.held_out import Scoring, score_run
from clinical_modernbert.training.meter import Meter, peak_flops
from clinical_modernbert.training.phases import Phase, phase_at
from clinical_modernbert.training.records import Records, Stopped
from clinical_modernbert.training.run_progress import Progress, ProgressWriter
from clinical_modernbert.training.spikes import skipped_batches, verdict
from clinical_modernbert.training.start import Run, TrainJob, start_run
from clinical_modernbert.training.state import (
    HeldOutPoint,
    Point,
    RollbackPoint,
    RunState,
    StartPoint,
    StepFigures,
    StepPoint,
    with_step,
)
from clinical_modernbert.training.step import Signals, StepContext, step_figures, step_seed, train_step
from clinical_modernbert.training.step_profile import StepProfiler
from clinical_modernbert.training.stop_signal import StopRequest
from clinical_modernbert.training.worker import Worker, from_first_worker

_logger = logging.getLogger(__name__)


def train_worker(
    job: TrainJob,
    worker: Worker,
    *,
    beat: Callable[[], None] = lambda: None,
    observe: Callable[[Point], None] = lambda point: None,
) -> None:
    """Train to the end, then upload the export and its result on rank 0; the caller publishes it. Every worker calls it.

    ``beat`` is called before each step, ``observe`` with each point that rank 0 records. If the run was asked to stop, the
    result is ``Stopped``.
    """
    keep_freed_memory()
    run = start_run(job, worker)
    records = Records(run.store, job.run_id)
    checkpoints = Checkpoints(
        store=run.store, run_id=job.run_id, worker=worker, shape=checkpoint_shape(run), section=run.recipe.checkpoint
    )
    with closing(checkpoints):
        checkpoints.check_room(run.engine)
        loop = _Loop(run, checkpoints, records, beat=beat, observe=observe)
        state = loop.train()
        beat()
        if state.step < run.num_steps:
            if worker.rank == 0:
                upload_last(lambda: records.write_result(Stopped(state.step)), what="the result")
            return
        exported = load_export(run, checkpoints, state)
    if worker.rank == 0:
        result = upload_last(lambda: export_model(run, state, exported, traces=loop.traces), what="the model")
        upload_last(lambda: records.write_result(result), what="the result")


class _Loop:
    """The moving parts of a run: the state after the last step, the speed, and a checkpoint's upload."""

    def __init__(
        self,
        run: Run,
        checkpoints: Checkpoints,
        records: Records,
        *,
        beat: Callable[[], None],
        observe: Callable[[Point], None],
    ) -> None:
        self._run, self._checkpoints = run, checkpoints
        self._records = records
        self._progress: ProgressWriter | None = None
        self._ending = threading.Event()
        self._beat, self._observe = beat, observe
        self._context = StepContext(run.engine, run.worker, run.phases, run.source.masker, run.recipe.optimizer)
        self._meter = Meter(peak=peak_flops(run.recipe.scaling, run.worker, run.precision))
        # Rank 0 alone records: traces of all workers would look alike.
        profile = run.recipe.logging.profile if run.worker.rank == 0 else None
        self._profiler = StepProfiler(profile, store=run.store, run_id=run.job.run_id)
        self._state = RunState()

    @property
    def traces(self) -> tuple[FileEntry, ...]:
        """The uploaded trace of the profiled steps, if any."""
        return self._profiler.files

    def train(self) -> RunState:
        """Train from the newest checkpoint to the end, or to the step after which the run was asked to stop."""
        run = self._run
        state = self._checkpoints.restore(run.engine)
        if state:
            _logger.info("resuming %s after step %d", run.job.run_id, state.step)
        else:
            state = self._first_state()
        self._state = _with_points(state, StartPoint(step=state.step, started=datetime.now(UTC).isoformat()))
        stop = None
        with ExitStack() as stack:
            if run.worker.rank == 0:
                stop = StopRequest(run.store, run.job.run_id)
                stack.callback(stop.close)
                self._progress = ProgressWriter(self._records)
                stack.callback(self._progress.close)
            reader = stack.enter_context(ThreadPoolExecutor(max_workers=1))
            stack.callback(self._ending.set)  # first of all: the reader may wait for the store
            self._train_steps(reader, stop)
        self._checkpoints.finish()
        return self._state

    def _first_state(self) -> RunState:
        """Return the state before the first step: of the run that is continued, else empty.

        A run that starts from trained weights is evaluated first, so that its curve shows what it gained and what it forgot.
        """
        run, state = self._run, RunState()
        if run.continued_state:
            parent = open_state(run.continued_state, run.store)
            checkpoint_shape(run).check_loads(parent)
            _logger.info("%s continues %s", run.job.run_id, run.continued_state.id)
            state = load_state(run.engine, parent, run.worker)
            state = replace(state, accounts=tuple(replace(account, phase=None) for account in state.accounts))
        if run.continued_state or run.initial_model:
            phase = phase_at(run.phases, state.step)
            set_global_rope_theta(run.model, phase.global_rope_theta or run.rope_theta)
            state = _with_points(state, self._evaluate(state.step - 1, phase))
        return state

    def _train_steps(self, reader: ThreadPoolExecutor, stop: StopRequest | None) -> None:
        run, checkpoints = self._run, self._checkpoints
        upcoming = self._read(reader, self._state.step)
        while upcoming:
            self._beat()
            step = self._state.step

            # 1. Take this step's batches. The reader's thread makes those of the next step during this one.
            started = time.perf_counter()
            share = upcoming.result()
            wait_s = time.perf_counter() - started
            upcoming = self._read(reader, step + 1)

            # 2. Set what depends on the step: the phase's RoPE base, and the seed of dropout if the model has any.
            phase = phase_at(run.phases, step)
            set_global_rope_theta(run.model, phase.global_rope_theta or run.rope_theta)
            torch.manual_seed(step_seed(run.recipe.training.seed, step, run.worker.rank))

            # 3. Train the step; with its counts, workers agree on whether a checkpoint is uploaded and the run shall stop.
            started = time.perf_counter()
            signals = Signals(uploaded=checkpoints.uploaded, stop=bool(stop))
            with self._profiler.around(step):
                result = train_step(self._context, share, step=step, signals=signals)
            step_s = time.perf_counter() - started

            # 4. Refuse a loss that is not a number or a spike: return to a checkpoint and read other batches, or end the run.
            reason = verdict(
                loss=result.loss,
                gradient_norm=result.gradient_norm,
                recent=self._state.recent_losses if step > phase.first_step else (),
                section=run.recipe.stability,
            )
            if reason:
                self._roll_back(reason)
                upcoming = self._read(reader, self._state.step)
                continue

            # 5. Count the step as done and record its figures.
            figures = step_figures(self._context, share, result, step=step, config=run.model.config)
            self._meter.add(num_tokens=figures.tokens, flops=figures.flops, step_s=step_s, wait_s=wait_s)
            self._record(figures)

            # 6. Write the manifest of an uploaded checkpoint, begin a checkpoint that is due, stop if asked to.
            if result.signals.uploaded:
                checkpoints.finish()
            self._save_if_due(stop=result.signals.stop)
            if result.signals.stop:
                return

    def _read(self, reader: ThreadPoolExecutor, step: int) -> Future[WorkerShare] | None:
        """Begin to read the batches of ``step``; None after the last step."""
        if step >= self._run.num_steps:
            return None
        share = partial(self._run.source.share, step, skipped=skipped_batches(step, self._state.skips))
        return reader.submit(patiently, share, work="reading training rows", wait=self._ending.wait)

    def _record(self, figures: StepFigures) -> None:
        """Advance the state by a step, with the points that are due: its figures, and held-out figures."""
        run, recipe, step = self._run, self._run.recipe, figures.step
        phase, last = phase_at(run.phases, step), step + 1 == run.num_steps
        points: list[Point] = []
        if last or step % recipe.logging.every_steps == 0:
            points.append(StepPoint(figures=figures, speed=self._meter.read(run.worker)))
        every = recipe.held_out_loss.every_steps
        if last or (every and (step + 1) % every == 0):
            points.append(self._evaluate(step, phase))
        # Losses of another phase are no measure: another corpus or objective has other losses.
        before = self._state.recent_losses if step > phase.first_step else ()
        self._state = replace(
            _with_points(self._state, *points),
            step=step + 1,
            recent_losses=(*before, figures.loss)[-recipe.stability.window_steps :],
            accounts=with_step(self._state.accounts, figures, objective=phase.section.objective),
        )
        if self._progress and points:
            for point in points:
                self._observe(point)
            self._progress.write(Progress(self._state.step, run.num_steps, self._state.history))

    def _evaluate(self, step: int, phase: Phase) -> HeldOutPoint:
        """Return the held-out figures after ``step`` on rows of the phase's length, and those of the probe of codes."""
        run = self._run
        scoring = Scoring(run.recipe.held_out_loss.max_rows, run.source.masker.tokens, run.worker, run.precision)
        point = score_run(run.model, run.corpora, phase, scoring, step=step)
        if run.probe is None:
            return point
        with products_in(run.precision, run.worker.device):
            figures = run.probe.figures(run.model) if run.worker.rank == 0 else {}
        return replace(point, held_out=point.held_out | from_first_worker(figures, run.worker))

    def _save_if_due(self, *, stop: bool) -> None:
        """Begin a checkpoint if its step has come or the run shall stop; after the last step only if states are kept."""
        step, section = self._state.step, self._run.recipe.checkpoint
        last = step == self._run.num_steps
        due = stop or (section.every_steps is not None and step % section.every_steps == 0)
        if section.keep_after_export if last else due:
            self._checkpoints.finish()  # one upload at a time
            self._checkpoints.save(self._run.engine, self._state)

    def _roll_back(self, reason: str) -> None:
        """Return to the newest checkpoint and leave out the batches since then; or end the run, by the recipe's rule."""
        section, state = self._run.recipe.stability, self._state
        step = state.step
        if section.action == "stop":
            raise ModelError(
                f"step {step}: {reason}; lower optimizer.learning_rate, use training.precision=float32, or set "
                "stability.action=roll_back"
            )
        if len(state.skips) >= section.max_rollbacks:
            raise ModelError(f"step {step}: {reason}, after stability.max_rollbacks={section.max_rollbacks} rollbacks")
        self._checkpoints.finish()
        restored = self._checkpoints.restore(self._run.engine, only_due=True)
        if restored is None:
            raise ModelError(f"step {step}: {reason}, and there is no checkpoint yet to return to")
        _logger.warning("step %d: %s; returning to the checkpoint after step %d", step, reason, restored.step)
        # Example: the loss of step 6 is refused, the checkpoint is after step 4. Step 4 is trained next, on the batch of step 7.
        skip = (restored.step, step + 1 - restored.step)
        point = RollbackPoint(step=step, rolled_back_to=restored.step, reason=reason)
        self._state = replace(_with_points(restored, point), skips=(*state.skips, skip))


def _with_points(state: RunState, *points: Point) -> RunState:
    return replace(state, history=(*state.history, *points)) if points else state
