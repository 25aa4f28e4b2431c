"""The replica: warm before its first request; the number of replicas is fixed or follows the queue."""

import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from clinical_modernbert.artifacts import open_store
from clinical_modernbert.errors import AbsentArtifactError
from clinical_modernbert.recipe import ServeRecipe
from clinical_modernbert.serving import app
from clinical_modernbert.serving.free_memory import FreeMemory
from pydantic import ValidationError
from ray.serve import Application

from tests.helpers.artifacts import publish_artifact


def recipe(**values: Any) -> ServeRecipe:
    return ServeRecipe.model_validate({"name": "tiny", "model": "tiny", **values})


def keeps_memory_free() -> bool:
    return "free-memory" in {thread.name for thread in threading.enumerate()}


def test_a_replica_is_warm_before_its_constructor_returns_and_gives_memory_back_until_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Serve sends requests to a replica once its constructor returned."""
    calls: list[str] = []
    warm = SimpleNamespace(model_id="tiny", recipe=recipe(), compute=None, max_batch_tokens=2048, tokens_per_s=1000.0)

    def warm_up() -> Any:
        calls.append("warm")
        return warm

    engine = SimpleNamespace(warm_up=warm_up)

    def load(root: str, recipe: ServeRecipe) -> Any:
        calls.append("load")
        return engine

    monkeypatch.setattr(app, "load_engine", load)
    monkeypatch.setattr(app, "ray_record", lambda: lambda *record: None)
    replica = app.EncoderReplica.__mro__[1]  # below what Serve wraps around it
    monkeypatch.setattr(app, "FreeMemory", lambda: FreeMemory(every_s=0.01))
    served = replica("root", recipe())
    assert calls == ["load", "warm"]
    assert keeps_memory_free()
    del served
    deadline = time.monotonic() + 10
    while keeps_memory_free() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not keeps_memory_free()


def test_an_application_waits_for_its_model_only_if_it_is_told_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(str(tmp_path / "store"))
    with pytest.raises(AbsentArtifactError, match="no model 'tiny'"):
        app.build_application(store, recipe())

    slept: list[float] = []

    def finish(seconds: float) -> None:
        slept.append(seconds)
        publish_artifact(store, "model", "tiny-1", tmp_path)

    monkeypatch.setattr("clinical_modernbert.artifacts.waiting.time.sleep", finish)
    assert isinstance(app.build_application(store, recipe(), wait_for_model=True), Application)
    assert slept == [30]


@pytest.mark.parametrize(
    ("scaling", "num_nodes", "most"),
    [
        ({"num_replicas": 2}, 2, 1),
        ({"num_replicas": 5}, 2, 3),
        ({"num_replicas": 2, "max_replicas": 8}, 2, 4),
        ({"num_replicas": 4}, 1, None),
        ({"num_replicas": 4}, None, None),
    ],
)
def test_each_node_takes_its_share_of_the_replicas_at_most(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    scaling: dict[str, int],
    num_nodes: int | None,
    most: int | None,
) -> None:
    """Otherwise the replica of a lost node starts on another one, and its successor gets none."""
    store = open_store(str(tmp_path / "store"))
    publish_artifact(store, "model", "tiny-1", tmp_path)
    given: list[Any] = []
    deployment = app.serve.deployment

    def recorded(*arguments: Any, **options: Any) -> Any:
        given.append(options["max_replicas_per_node"])
        return deployment(*arguments, **options)

    monkeypatch.setattr(app.serve, "deployment", recorded)
    app.build_application(store, recipe(scaling=scaling), num_nodes=num_nodes)

    assert given == [most]


def test_the_number_of_replicas_is_fixed_or_follows_the_queue() -> None:
    assert app.autoscaling(recipe(scaling={"num_replicas": 3}).scaling) is None
    scaling = recipe(scaling={"num_replicas": 2, "max_replicas": 8, "target_requests": 5}).scaling
    config = app.autoscaling(scaling)
    assert config is not None
    assert (config.min_replicas, config.initial_replicas, config.max_replicas) == (2, 2, 8)
    assert config.target_ongoing_requests == 5
    with pytest.raises(ValidationError, match="max_replicas=1 is less than num_replicas=2"):
        recipe(scaling={"num_replicas": 2, "max_replicas": 1})
