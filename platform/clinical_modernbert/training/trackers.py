"""Curves outside the store: TensorBoard, MLflow, Weights & Biases if the recipe names them, and Prometheus through Ray.

Trackers follow the recorded curve from the process that started the run. None of their code runs in a worker, and neither a
restarted worker nor the same command run again adds a second run: MLflow's run is found by a tag, that of Weights & Biases by its
id. A tracker's package is imported only if the recipe names it.
"""

import importlib
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Protocol

from clinical_modernbert.errors import ModelError
from clinical_modernbert.progress import polling
from clinical_modernbert.recipe import ContrastRecipe, PretrainRecipe
from clinical_modernbert.recipe.overrides import dotted
from clinical_modernbert.training.state import HeldOutPoint, History, Point, point_to_json

TrainRecipe = PretrainRecipe | ContrastRecipe

POLL_S = 5.0
_RUN_TAG = "clinical_run"
_logger = logging.getLogger(__name__)


class Tracker(Protocol):
    """Takes the figures of a step."""

    def log(self, step: int, figures: dict[str, float]) -> None:
        """Take figures by name."""

    def close(self) -> None:
        """Write what is still in memory."""


def figures_of(point: Point) -> dict[str, float]:
    """Return a point's numbers by name: ``train/loss``, ``held_out/uniform_top1``, ..."""
    if isinstance(point, HeldOutPoint):
        return {f"held_out/{name}": value for name, value in point.held_out.items()}
    numbers = {n: v for n, v in point_to_json(point).items() if isinstance(v, int | float) and n != "step"}
    return {f"train/{name}": float(value) for name, value in numbers.items()}


def source_figures_of(point: Point) -> dict[str, float]:
    """Return the held-out figures of each corpus and source by name: ``held_out/<corpus>/notes/uniform_loss``."""
    found: dict[str, float] = {}
    for corpus, figures in (point.corpora if isinstance(point, HeldOutPoint) else {}).items():
        found |= {f"held_out/{corpus}/{name}": value for name, value in figures.overall.items()}
        for source, of_source in figures.by_source.items():
            found |= {f"held_out/{corpus}/{source}/{name}": value for name, value in of_source.items()}
    return found


@contextmanager
def tracking(recipe: TrainRecipe, run_id: str, *, history: Callable[[], History]) -> Iterator[None]:
    """Pass each point of ``history()`` once to the recipe's trackers until the block ends.

    Raises ``ModelError`` before the block if a package is not installed. A tracker that raises later is dropped, with an error
    in the log, and the run continues. A curve that cannot be read is read again later.
    """
    folder = Path(recipe.logging.trackers_path) / run_id
    trackers = [TRACKERS[name](folder, recipe, run_id) for name in recipe.logging.trackers]
    if not trackers:
        yield
        return
    num_seen = 0

    def look() -> None:
        nonlocal num_seen
        points = history()
        # A restored run has fewer points than before its failure; the same steps come again with the same values.
        num_seen = min(num_seen, len(points))
        for point in points[num_seen:]:
            for tracker in list(trackers):
                _log(tracker, point, trackers)
        num_seen = len(points)

    try:
        with polling(look, every_s=POLL_S):
            yield
    finally:
        for tracker in trackers:
            _close(tracker)


def _log(tracker: Tracker, point: Point, trackers: list[Tracker]) -> None:
    try:
        tracker.log(max(point.step, 0), figures_of(point) | source_figures_of(point))  # -1: before the first step
    except Exception:  # any error of a third-party library: a run of days must not end because of it
        _logger.exception("%s failed and gets no more figures", type(tracker).__name__)
        trackers.remove(tracker)


def _close(tracker: Tracker) -> None:
    try:
        tracker.close()
    except Exception:  # raised here, it would hide why the run ended
        _logger.exception("%s could not write its last figures", type(tracker).__name__)


class _TensorBoard:
    def __init__(self, folder: Path, recipe: TrainRecipe, run_id: str) -> None:
        _require("tensorboard", "tensorboard")
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder / "tensorboard"))

    def log(self, step: int, figures: dict[str, float]) -> None:
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class _Mlflow:
    def __init__(self, folder: Path, recipe: TrainRecipe, run_id: str) -> None:
        self._mlflow = _require("mlflow", "mlflow")
        if "MLFLOW_TRACKING_URI" not in os.environ:
            folder.mkdir(parents=True, exist_ok=True)
            self._mlflow.set_tracking_uri(f"sqlite:///{folder.absolute()}/mlflow.db")
        experiment = self._mlflow.set_experiment("clinical-modernbert")
        found = self._mlflow.search_runs(
            [experiment.experiment_id],
            filter_string=f"tags.{_RUN_TAG} = '{run_id}'",
            max_results=1,
            output_format="list",
        )
        self._last_step = -1
        if found:
            self._mlflow.start_run(run_id=found[0].info.run_id)
            points = self._mlflow.MlflowClient().get_metric_history(found[0].info.run_id, "train/loss")
            self._last_step = max((point.step for point in points), default=-1)
        else:
            self._mlflow.start_run(run_name=run_id, tags={_RUN_TAG: run_id})
            self._mlflow.log_params(dotted(recipe.model_dump(mode="json")))

    def log(self, step: int, figures: dict[str, float]) -> None:
        if step > self._last_step:  # the server keeps what an earlier process logged, and would hold it twice
            self._mlflow.log_metrics(figures, step=step)

    def close(self) -> None:
        self._mlflow.end_run()


class _Wandb:
    def __init__(self, folder: Path, recipe: TrainRecipe, run_id: str) -> None:
        wandb = _require("wandb", "wandb")
        folder.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            project="clinical-modernbert",
            name=run_id,
            id=run_id,
            resume="allow",
            dir=str(folder),
            config=recipe.model_dump(mode="json"),
            mode=os.environ.get("WANDB_MODE", "offline"),
        )

    def log(self, step: int, figures: dict[str, float]) -> None:
        if step >= self._run.starting_step:  # the server has the steps before, and refuses them with a warning each
            self._run.log(figures, step=step)

    def close(self) -> None:
        self._run.finish()


TRACKERS: dict[str, Callable[[Path, TrainRecipe, str], Tracker]] = {
    "tensorboard": _TensorBoard,
    "mlflow": _Mlflow,
    "wandb": _Wandb,
}


def ray_gauges(run_id: str) -> Callable[[Point], None]:
    """Return a function that sets a point's figures on Ray's Prometheus endpoint: ``ray_cm_train_<figure>``, tagged by run."""
    from ray.util.metrics import Gauge

    gauges: dict[str, Gauge] = {}

    def observe(point: Point) -> None:
        for name, value in {"train/step": float(point.step), **figures_of(point)}.items():
            metric = f"cm_{name.replace('/', '_')}"
            if metric not in gauges:
                gauges[metric] = Gauge(metric, description=f"Training: {name}", tag_keys=("run",))
            gauges[metric].set(value, tags={"run": run_id})

    return observe


def _require(module: str, extra: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ModelError(
            f"logging.trackers names {module}, which is not installed: pip install 'clinical-modernbert[{extra}]', "
            f"or remove {module} from logging.trackers"
        ) from None
