"""Training state is code to the library that loads it: with a key, only signed state is loaded."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from clinical_modernbert.artifacts import Plan, Store, open_store
from clinical_modernbert.errors import RunStopped, SignatureError
from clinical_modernbert.training import loop
from clinical_modernbert.training.launch import do_train, pretrain_in_process, train_job
from clinical_modernbert.training.records import Records
from clinical_modernbert.training.worker import Worker

from tests.helpers.tiny import publish_tiny_corpus, tiny_pretrain_plan


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = open_store(str(tmp_path))
    publish_tiny_corpus(store)
    return store


def stop_after_step_4(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train until a signal asks the run to stop, which leaves a checkpoint."""
    monkeypatch.setattr("clinical_modernbert.training.stop_signal.POLL_S", 0.01)
    real = loop.train_step

    def stops_after_step_4(*args: Any, step: int, **kwargs: Any) -> Any:
        if step == 4:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.1)
        return real(*args, step=step, **kwargs)

    monkeypatch.setattr(loop, "train_step", stops_after_step_4)
    with pytest.raises(RunStopped):
        pretrain_in_process(plan)
    monkeypatch.setattr(loop, "train_step", real)


def test_state_is_loaded_only_with_the_signature_that_the_environment_asks_for(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library that loads the state runs what is in it; a key that may write to the store must not be enough."""
    plan = tiny_pretrain_plan(store, "training.num_steps=10", "name=signed")
    records = Records(store, plan.id)
    stop_after_step_4(plan, monkeypatch)
    monkeypatch.setenv("CLINICAL_MANIFEST_KEY", "key")
    with pytest.raises(
        SignatureError, match=f"checkpoint/{plan.id}/.* is not signed, and CLINICAL_MANIFEST_KEY is set"
    ):
        pretrain_in_process(plan)
    assert records.steps_done() < 10
    monkeypatch.delenv("CLINICAL_MANIFEST_KEY")
    assert pretrain_in_process(plan).summary["num_steps"] == 10


def test_a_worker_without_the_key_of_its_driver_writes_no_state(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = tiny_pretrain_plan(store, name="unsigned")
    monkeypatch.setenv("CLINICAL_MANIFEST_KEY", "key")
    job = train_job(plan)
    monkeypatch.delenv("CLINICAL_MANIFEST_KEY")
    with pytest.raises(SignatureError, match="is set where the job was started and not in its workers"):
        do_train(job, Worker(rank=0, world_size=1, device=torch.device("cpu")))
    assert not list(store.walk("checkpoint"))
