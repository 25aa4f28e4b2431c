"""Curves elsewhere than in the store: TensorBoard, MLflow, Weights & Biases by recipe, Prometheus through Ray.

Trackers follow the curve that the run records, from the process that started it: nothing of theirs runs in a worker, and a
restarted worker adds no second run. A package is imported only where the recipe names it.
"""

import importlib
import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from clinical_modernbert.errors import ModelError
from clinical_modernbert.recipe import PretrainRecipe

_POLL_S = 5.0
_logger = logging.getLogger(__name__)

Point = dict[str, Any]


class Tracker(Protocol):
    """Takes the figures of a step."""

    def log(self, step: int, figures: dict[str, float]) -> None:
        """Take figures by name."""

    def close(self) -> None:
        """Write what is still in memory."""


def figures_of(point: Point) -> dict[str, float]:
    """Return a point's numbers by name: ``train/loss``, ``held_out/uniform_top1``, ..."""
    if "held_out" in point:
        return {f"held_out/{name}": value for name, value in point["held_out"].items()}
    numbers = {name: value for name, value in point.items() if isinstance(value, int | float) and name != "step"}
    return {f"train/{name}": float(value) for name, value in numbers.items()}


@contextmanager
def tracking(recipe: PretrainRecipe, run_id: str, *, history: Callable[[], list[Point]]) -> Iterator[None]:
    """Hand the points of ``history()`` to the recipe's trackers until the block ends, each of them once.

    Raises ``ModelError`` before the block where a package is absent. What a tracker raises later ends only its tracking, with
    an error in the log: a run of days must not die of its display.
    """
    folder = Path(recipe.logging.trackers_path) / run_id
    trackers = [_OPEN[name](folder, recipe, run_id) for name in recipe.logging.trackers]
    if not trackers:
        yield
        return
    stop = threading.Event()

    def follow() -> None:
        num_seen = 0
        while True:
            ended = stop.wait(_POLL_S)
            points = history()
            # A restored run has fewer points than were seen before the failure; the same steps come again with the same values.
            num_seen = min(num_seen, len(points))
            for point in points[num_seen:]:
                for tracker in list(trackers):
                    _log(tracker, point, trackers)
            num_seen = len(points)
            if ended:
                return

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        for tracker in trackers:
            tracker.close()


def _log(tracker: Tracker, point: Point, trackers: list[Tracker]) -> None:
    try:
        tracker.log(point["step"], figures_of(point))
    except (
        Exception
    ):  # whatever a foreign library raises: a run of days must not die of its display, and the log says so
        _logger.exception("%s failed and is left out from here on", type(tracker).__name__)
        trackers.remove(tracker)


class _TensorBoard:
    def __init__(self, folder: Path, recipe: PretrainRecipe, run_id: str) -> None:
        _require("tensorboard", "tensorboard")
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder / "tensorboard"))

    def log(self, step: int, figures: dict[str, float]) -> None:
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class _Mlflow:
    def __init__(self, folder: Path, recipe: PretrainRecipe, run_id: str) -> None:
        self._mlflow = _require("mlflow", "mlflow")
        if "MLFLOW_TRACKING_URI" not in os.environ:
            folder.mkdir(parents=True, exist_ok=True)
            self._mlflow.set_tracking_uri(f"sqlite:///{folder.absolute()}/mlflow.db")
        self._mlflow.set_experiment("clinical-modernbert")
        self._mlflow.start_run(run_name=run_id)
        self._mlflow.log_params(_flat(recipe.model_dump(mode="json")))

    def log(self, step: int, figures: dict[str, float]) -> None:
        self._mlflow.log_metrics(figures, step=step)

    def close(self) -> None:
        self._mlflow.end_run()


class _Wandb:
    def __init__(self, folder: Path, recipe: PretrainRecipe, run_id: str) -> None:
        wandb = _require("wandb", "wandb")
        folder.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            project="clinical-modernbert",
            name=run_id,
            dir=str(folder),
            config=recipe.model_dump(mode="json"),
            mode=os.environ.get("WANDB_MODE", "offline"),
        )

    def log(self, step: int, figures: dict[str, float]) -> None:
        self._run.log(figures, step=step)

    def close(self) -> None:
        self._run.finish()


_OPEN: dict[str, Callable[[Path, PretrainRecipe, str], Tracker]] = {
    "tensorboard": _TensorBoard,
    "mlflow": _Mlflow,
    "wandb": _Wandb,
}


def ray_gauges(run_id: str) -> Callable[[Point], None]:
    """Return a function that shows a point on Ray's Prometheus endpoint, as ``ray_cm_train_<figure>`` by run."""
    from ray.util.metrics import Gauge

    gauges: dict[str, Any] = {}

    def observe(point: Point) -> None:
        for name, value in {"train/step": float(point["step"]), **figures_of(point)}.items():
            metric = f"cm_{name.replace('/', '_')}"
            if metric not in gauges:
                gauges[metric] = Gauge(metric, description=f"Pretraining: {name}", tag_keys=("run",))
            gauges[metric].set(value, tags={"run": run_id})

    return observe


def _require(module: str, extra: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ModelError(
            f"logging.trackers names {module}, which is not installed: pip install 'clinical-modernbert[{extra}]', "
            f"or leave {module} out"
        ) from None


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for name, value in values.items():
        flat.update(_flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value})
    return flat
