"""A store that is away for a while costs a run no step, and never hides why a run ended."""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import ray.train
import ray.train.torch
import torch
from clinical_modernbert import outages
from clinical_modernbert.artifacts import Store, open_store
from clinical_modernbert.artifacts.file_store import FileStore
from clinical_modernbert.errors import ModelError, StoreError
from clinical_modernbert.training import launch, loop, trackers
from clinical_modernbert.training.launch import pretrain_in_process, ray_worker, train_job
from clinical_modernbert.training.records import Records
from safetensors.torch import load_file

from tests.helpers.tiny import publish_tiny_corpus, tiny_pretrain_plan


class Switch:
    """Whether the store is away."""

    away = False


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = open_store(str(tmp_path))
    publish_tiny_corpus(store)
    return store


@pytest.fixture
def switch(monkeypatch: pytest.MonkeyPatch) -> Switch:
    """While it says so, each call of the store fails; tries are milliseconds apart."""
    switch = Switch()
    for name in ("read_bytes", "write_bytes", "put_file", "get_file", "delete", "names", "walk"):
        monkeypatch.setattr(FileStore, name, _unless_away(name, switch))
    monkeypatch.setattr(outages, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(outages, "LONGEST_WAIT_S", 0.02)
    monkeypatch.setattr("clinical_modernbert.training.stop_signal.POLL_S", 0.01)
    monkeypatch.setattr(trackers, "POLL_S", 0.01)
    return switch


def _unless_away(name: str, switch: Switch) -> Callable[..., Any]:
    real = getattr(FileStore, name)

    def call(*args: Any, **kwargs: Any) -> Any:
        if switch.away:
            raise StoreError(f"{name}: the store is away")
        return real(*args, **kwargs)

    return call


def steps_with(monkeypatch: pytest.MonkeyPatch, before: Any) -> list[int]:
    """Call ``before(step)`` before each step; return the steps as they are trained."""
    real, steps = loop.train_step, []

    def step_(*args: Any, step: int, **kwargs: Any) -> Any:
        before(step)
        steps.append(step)
        return real(*args, step=step, **kwargs)

    monkeypatch.setattr(loop, "train_step", step_)
    return steps


def test_an_outage_costs_no_step_and_one_line_of_each_work(
    store: Store, switch: Switch, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It begins before the upload of the checkpoint after step 4 and ends before the next one is due."""
    whole = pretrain_in_process(tiny_pretrain_plan(store, "name=whole"))
    points: list[int] = []

    class Noted:
        def log(self, step: int, figures: dict[str, float]) -> None:
            points.append(step)

        def close(self) -> None:
            if switch.away:
                raise StoreError("away")

    monkeypatch.setitem(trackers.TRACKERS, "wandb", lambda *a: Noted())

    def before(step: int) -> None:
        if step == 3:
            switch.away = True
        if step == 7:
            _until(lambda: "uploading a checkpoint failed" in caplog.text and "looking for a request" in caplog.text)
            switch.away = False

    steps = steps_with(monkeypatch, before)
    with caplog.at_level(logging.WARNING):
        model = pretrain_in_process(tiny_pretrain_plan(store, "name=away", "logging.trackers=[wandb]"))
    assert steps == list(range(12))
    one, other = (load_file(artifact.file("model/model.safetensors")) for artifact in (whole, model))
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())
    assert {0, 3, 6, 11} <= set(points), "the tracker has the curve from before, during and after the outage"
    messages = [record.getMessage() for record in caplog.records]
    for work in ("looking for a request to stop", "writing the progress", "uploading a checkpoint"):
        assert len([message for message in messages if message.startswith(f"{work} failed")]) == 1, work


def test_the_first_error_is_reported_while_the_store_is_away(
    store: Store, switch: Switch, monkeypatch: pytest.MonkeyPatch
) -> None:
    def before(step: int) -> None:
        if step == 5:
            switch.away = True
            raise ModelError("step 5: the loss is not a number")

    steps_with(monkeypatch, before)
    with pytest.raises(ModelError, match="step 5: the loss is not a number"):
        pretrain_in_process(tiny_pretrain_plan(store))


def test_a_restarted_worker_waits_for_the_store(store: Store, switch: Switch, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = tiny_pretrain_plan(store)
    job = train_job(plan)
    opened: Iterator[int] = iter(range(9))

    def opens(uri: str) -> Store:
        if next(opened) < 3:
            raise StoreError("away")
        return store

    class Context:
        def get_world_rank(self) -> int:
            return 0

        def get_world_size(self) -> int:
            return 1

    trained = []
    monkeypatch.setattr(ray.train, "get_context", Context)
    monkeypatch.setattr(ray.train.torch, "get_device", lambda: torch.device("cpu"))
    monkeypatch.setattr(launch, "open_store", opens)
    monkeypatch.setattr(launch, "train_worker", lambda *a, **k: trained.append(1))
    ray_worker(asdict(job))
    assert trained == [1] and Records(store, plan.id).error(job.launch) is None


def _until(happened: Any) -> None:
    deadline = time.monotonic() + 120
    while not happened() and time.monotonic() < deadline:
        time.sleep(0.01)
