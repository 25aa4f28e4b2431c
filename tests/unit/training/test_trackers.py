"""Trackers get each point once, are imported only where named, and never decide whether a run lives."""

import json
import re
import sys
from pathlib import Path

import pytest
from clinical_modernbert.artifacts import open_store
from clinical_modernbert.errors import ModelError
from clinical_modernbert.training import trackers
from clinical_modernbert.training.launch import pretrain_in_process
from clinical_modernbert.training.state import HeldOutPoint, History, history_from_json
from clinical_modernbert.training.trackers import figures_of, source_figures_of, tracking

from tests.helpers.tiny import publish_tiny_corpus, tiny_pretrain_plan


@pytest.fixture
def store(tmp_path: Path):  # type: ignore[no-untyped-def]
    store = open_store(str(tmp_path / "store"))
    publish_tiny_corpus(store)
    return store


class Noted:
    """A tracker that keeps what it is given."""

    def __init__(self) -> None:
        self.points: list[tuple[int, dict[str, float]]] = []
        self.closed = False

    def log(self, step: int, figures: dict[str, float]) -> None:
        self.points.append((step, figures))

    def close(self) -> None:
        self.closed = True


def test_a_tracker_gets_every_point_of_the_curve_once(store, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    noted = Noted()
    monkeypatch.setitem(trackers.TRACKERS, "wandb", lambda *a: noted)
    monkeypatch.setattr(trackers, "POLL_S", 0.05)
    model = pretrain_in_process(tiny_pretrain_plan(store, "logging.trackers=[wandb]"))
    history = history_from_json(json.loads(model.file("history.json").read_text()))
    assert noted.points == [(max(p.step, 0), figures_of(p) | source_figures_of(p)) for p in history]
    by_source = {f"held_out/{model.summary['corpus']}/{source}/uniform_loss" for source in ("left", "right")}
    assert by_source <= noted.points[-1][1].keys()
    assert noted.closed and "held_out/uniform_top25" in noted.points[-1][1]


def test_a_restored_run_is_followed_on(store, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    noted = Noted()
    monkeypatch.setitem(trackers.TRACKERS, "mlflow", lambda *a: noted)
    curves = iter([[1, 2, 3], [1, 2], [1, 2, 3, 4]])

    def history() -> History:
        return tuple(HeldOutPoint(step=n, held_out={"uniform_loss": float(n)}) for n in next(curves, [1, 2, 3, 4]))

    monkeypatch.setattr(trackers, "POLL_S", 0.01)
    recipe = tiny_pretrain_plan(store, "logging.trackers=[mlflow]").recipe
    with tracking(recipe, "r-1", history=history):
        while len(noted.points) < 5:
            pass
    assert [step for step, _ in noted.points] == [1, 2, 3, 3, 4]


def test_a_tracker_that_fails_leaves_the_run_alone(store, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    class Fails(Noted):
        def log(self, step: int, figures: dict[str, float]) -> None:
            raise ConnectionError("the server is away")

    monkeypatch.setitem(trackers.TRACKERS, "wandb", lambda *a: Fails())
    monkeypatch.setattr(trackers, "POLL_S", 0.05)
    assert pretrain_in_process(tiny_pretrain_plan(store, "logging.trackers=[wandb]")).summary["num_steps"] == 12


@pytest.mark.parametrize("name", ["tensorboard", "mlflow", "wandb"])
def test_an_absent_package_is_named_before_the_first_step(store, name: str, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setitem(sys.modules, name, None)  # as if it were not installed
    plan = tiny_pretrain_plan(store, f"logging.trackers=[{name}]")
    with pytest.raises(ModelError, match=rf"clinical-modernbert\[{name}\]"):
        pretrain_in_process(plan)
    assert store.names("work/model") == []


@pytest.mark.parametrize("name", ["tensorboard", "mlflow", "wandb"])
def test_the_real_package_writes_into_the_recipe_s_folder(
    store,  # type: ignore[no-untyped-def]
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip(name, reason=f"{name} is not installed")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    folder = tmp_path / "runs"
    plan = tiny_pretrain_plan(store, f"logging.trackers=[{name}]", f"logging.trackers_path={folder}")
    pretrain_in_process(plan)
    written = [path for path in (folder / plan.id).rglob("*") if path.is_file() and path.stat().st_size]
    assert written


def test_the_same_command_again_continues_mlflow_s_run(
    store,  # type: ignore[no-untyped-def]
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    recipe = tiny_pretrain_plan(store, "logging.trackers=[mlflow]").recipe
    for steps in ((0, 1, 2), (0, 1, 2, 3, 4)):
        tracker = trackers.TRACKERS["mlflow"](tmp_path, recipe, "r-1")
        for step in steps:
            tracker.log(step, {"train/loss": float(step)})
        tracker.close()
    (run,) = mlflow.search_runs(search_all_experiments=True, output_format="list")
    points = mlflow.MlflowClient().get_metric_history(run.info.run_id, "train/loss")
    assert [(point.step, point.value) for point in points] == [(n, float(n)) for n in range(5)]


def test_no_tracker_is_imported_unless_it_is_named(store, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    for name in ("tensorboard", "mlflow", "wandb"):
        monkeypatch.setitem(sys.modules, name, None)  # an import of it would raise
    assert pretrain_in_process(tiny_pretrain_plan(store, "training.num_steps=1")).summary["num_steps"] == 1


def test_the_chart_s_dashboard_shows_what_a_run_records(store, repository: Path) -> None:  # type: ignore[no-untyped-def]
    model = pretrain_in_process(tiny_pretrain_plan(store, "training.num_steps=3"))
    history = history_from_json(json.loads(model.file("history.json").read_text()))
    recorded = {name.replace("/", "_") for point in history for name in figures_of(point)} | {"train_step", "train_mfu"}
    dashboard = (repository / "charts" / "clinical-modernbert" / "dashboards" / "training.yaml").read_text()
    shown = set(re.findall(r"ray_cm_((?:train|held_out)_[a-z0-9_]+)", dashboard))
    assert len(shown) >= 10 and shown <= recorded
