"""What happens around the steps: uploads beside them, checkpoints kept, a stop on request."""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import ray.train
import ray.train.torch
import torch
from clinical_modernbert import outages
from clinical_modernbert.artifacts import Artifact, Plan, Store, find_artifact, open_store
from clinical_modernbert.artifacts.artifact import artifact_at
from clinical_modernbert.artifacts.file_store import FileStore
from clinical_modernbert.errors import ModelError, RecipeError, RunStopped, StoreError, StoreOutage
from clinical_modernbert.training import launch, loop
from clinical_modernbert.training.checkpoint import Checkpoints, UploadRefusedError
from clinical_modernbert.training.engine import reads
from clinical_modernbert.training.launch import pretrain_in_process, ray_worker, train_job
from clinical_modernbert.training.phases import Phase
from clinical_modernbert.training.records import Records, Stopped
from clinical_modernbert.training.state import HeldOutPoint
from safetensors.torch import load_file

from tests.helpers.tiny import publish_tiny_corpus, tiny_pretrain_plan


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = open_store(str(tmp_path))
    publish_tiny_corpus(store)
    return store


def weights(model: Artifact) -> dict[str, torch.Tensor]:
    return load_file(model.file("model/model.safetensors"))


def assert_equal_to_the_bit(one: Artifact, other: Artifact) -> None:
    expected = weights(other)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in weights(one).items())


def steps_of(model: Artifact) -> list[dict[str, Any]]:
    return [point for point in json.loads(model.file("history.json").read_text()) if "loss" in point]


def kept(store: Store, plan: Plan) -> list[int]:
    """Steps of the finished checkpoints."""
    names = store.names(f"checkpoint/{plan.id}")
    found = [artifact_at(store, f"checkpoint/{plan.id}/{name}") for name in names]
    return [artifact.summary["step"] for artifact in found if artifact]


def figures(loss: float) -> dict[str, float]:
    """Held-out figures with this loss."""
    return {"uniform_loss": loss, **{f"uniform_top{k}": 0.5 for k in (1, 5, 10, 25)}}


def measure(monkeypatch: pytest.MonkeyPatch, losses: Iterator[float]) -> list[int | None]:
    """Make each evaluation find the next of ``losses``; return the list to which it adds the length of its rows."""
    lengths: list[int | None] = []

    def scored(model: Any, corpora: Any, phase: Phase, scoring: Any, *, step: int) -> HeldOutPoint:
        lengths.append(phase.sequence_length)
        return HeldOutPoint(step, figures(next(losses)), phase.sequence_length, phase.mixture.shares)

    monkeypatch.setattr(loop, "score_run", scored)
    return lengths


@pytest.fixture
def slow_uploads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """An upload ends only after one more step has begun, and that step begins after it; the events are listed in their order."""
    events: list[tuple[str, int]] = []
    put, step = FileStore.put_file, loop.train_step

    def slow_put(self: FileStore, local_path: Path, key: str) -> None:
        if not key.startswith("checkpoint/") or "state.pt" not in key:
            return put(self, local_path, key)
        number = int(key.split("/")[2].split("-", maxsplit=1)[0])
        events.append(("begin", number))
        assert threading.current_thread() is not threading.main_thread()
        deadline = time.monotonic() + 60
        while events[-1][0] != "step" and time.monotonic() < deadline:
            time.sleep(0.01)
        put(self, local_path, key)
        events.append(("end", number))
        return None

    def noted(*args: Any, **kwargs: Any) -> Any:
        deadline = time.monotonic() + 60
        while kwargs["step"] in (4, 8) and ("begin", kwargs["step"]) not in events and time.monotonic() < deadline:
            time.sleep(0.01)
        events.append(("step", kwargs["step"]))
        return step(*args, **kwargs)

    monkeypatch.setattr(FileStore, "put_file", slow_put)
    monkeypatch.setattr(loop, "train_step", noted)
    return events


def test_training_goes_on_beside_the_upload_and_uploads_keep_their_order(
    store: Store, slow_uploads: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clinical_modernbert.training.launch.delete_checkpoints", lambda *a: None)
    plan = tiny_pretrain_plan(store, "checkpoint.every_steps=4", "checkpoint.keep=9")
    pretrain_in_process(plan)
    within = slow_uploads[slow_uploads.index(("begin", 4)) : slow_uploads.index(("end", 4))]
    assert any(event[0] == "step" for event in within), "no step waited for the upload"
    uploads = [event for event in slow_uploads if event[0] != "step"]
    assert uploads == [("begin", 4), ("end", 4), ("begin", 8), ("end", 8)]
    assert kept(store, plan) == [4, 8]


@pytest.mark.parametrize(
    ("raised", "error", "of", "message"),
    [
        (
            StoreError,
            UploadRefusedError,
            "files",
            "after step 10 could not be uploaded: 4711; once the store accepts it",
        ),
        (
            StoreError,
            UploadRefusedError,
            "manifest",
            "after step 10 could not be uploaded: 4711; once the store accepts it",
        ),
        (StoreOutage, StoreOutage, "files", "after step 10 could not be uploaded: 4711$"),
        (StoreOutage, StoreOutage, "manifest", "after step 10 could not be uploaded: 4711$"),
    ],
)
def test_a_failed_upload_is_an_error_of_the_run(
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    raised: type[StoreError],
    error: type[StoreError],
    of: str,
    message: str,
) -> None:
    def refuse(self: FileStore, *args: Any) -> None:
        key = args[1] if of == "files" else args[0]
        if key.startswith("checkpoint/") and not key.endswith("write-check"):
            raise raised("4711")
        write(self, *args)

    name = "put_file" if of == "files" else "write_bytes"
    write = getattr(FileStore, name)
    monkeypatch.setattr(FileStore, name, refuse)
    monkeypatch.setattr(outages, "PATIENCE_S", 0)
    plan = tiny_pretrain_plan(store, "checkpoint.every_steps=10")
    with pytest.raises(StoreError, match=message) as caught:
        pretrain_in_process(plan)
    assert type(caught.value) is error
    assert plan.existing() is None and kept(store, plan) == []


@pytest.mark.parametrize("what", ["the model", "the result"])
def test_a_store_that_refuses_the_end_of_a_run_is_named(
    store: Store, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise StoreError("4711")

    monkeypatch.setattr(*((loop, "export_model") if what == "the model" else (Records, "write_result")), refuse)
    monkeypatch.setattr(outages, "PATIENCE_S", 0)
    plan = tiny_pretrain_plan(store, "checkpoint.every_steps=10")
    with pytest.raises(UploadRefusedError, match=f"{what} could not be uploaded: 4711; .* from the last checkpoint"):
        pretrain_in_process(plan)
    monkeypatch.undo()
    assert pretrain_in_process(plan).manifest.id == plan.id


def test_the_newest_and_the_best_checkpoints_are_kept(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clinical_modernbert.training.launch.delete_checkpoints", lambda *a: None)
    losses = iter([9.0, 5.0, 7.0, 8.0, 6.0, 9.5])
    measure(monkeypatch, losses)
    every = ("checkpoint.every_steps=2", "held_out_loss.every_steps=2", "checkpoint.keep=1")
    plan = tiny_pretrain_plan(store, *every, "checkpoint.keep_best=2")
    pretrain_in_process(plan)
    assert kept(store, plan) == [4, 10]  # 4: the best; 10: the second best and the newest


def test_the_best_weights_are_exported_where_the_recipe_says_so(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    # The schedules stand still: the first four steps of eight are those of a run of four.
    constant = (
        *("optimizer.schedule=constant", "optimizer.warmup_fraction=0"),
        *("masking.rate_end=0.3", "masking.odds_end=4"),
    )
    until_four = pretrain_in_process(tiny_pretrain_plan(store, "training.num_steps=4", *constant, name="short"))
    losses = iter([9.0, 5.0, 7.0, 8.0])
    measure(monkeypatch, losses)
    plan = tiny_pretrain_plan(
        store,
        *constant,
        *("training.num_steps=8", "checkpoint.every_steps=2", "held_out_loss.every_steps=2"),
        *("checkpoint.keep=1", "training.export=best"),
        name="best",
    )
    best = pretrain_in_process(plan)
    assert best.summary["exported_step"] == 4 and best.summary["held_out"] == figures(5.0)
    assert_equal_to_the_bit(best, until_four)


def test_a_damaged_best_checkpoint_gives_way_to_the_next(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the run could never end: each start resumes after it, and meets it again."""
    real = Checkpoints.restore_best

    def with_damage(self: Checkpoints, *args: Any, **kwargs: Any) -> Any:
        (best,) = (name for name in store.names(f"checkpoint/{plan.id}") if int(name.partition("-")[0]) == 4)
        store.write_bytes(f"checkpoint/{plan.id}/{best}/state.pt", b"")
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Checkpoints, "restore_best", with_damage)
    measure(monkeypatch, iter([9.0, 5.0, 7.0, 8.0]))
    every = ("checkpoint.every_steps=2", "held_out_loss.every_steps=2", "training.export=best", "training.num_steps=8")
    plan = tiny_pretrain_plan(store, *every)
    assert pretrain_in_process(plan).summary["held_out"] == figures(7.0)


def test_the_best_is_chosen_among_rows_of_the_last_length_and_scored_as_exported(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Losses on rows of 64 and of 128 tokens are not comparable, and the manifest's figure is that of the exported weights."""
    publish_tiny_corpus(store, row_lengths=(64, 128), name="both")
    losses = iter([1.0, 5.0, 4.0, 6.0])  # the first is lower only because its rows are shorter
    measured = measure(monkeypatch, losses)
    phases = "training.phases=[{sequence_length: 64, num_steps: 2}, {sequence_length: 128, num_steps: 6}]"
    every = ("checkpoint.every_steps=2", "held_out_loss.every_steps=2", "checkpoint.keep=1", "training.export=best")
    plan = tiny_pretrain_plan(store, "training.num_steps=null", phases, *every, corpus="both")
    best = pretrain_in_process(plan)
    assert measured == [64, 128, 128, 128]
    assert best.summary["exported_step"] == 6 and best.summary["held_out"] == figures(4.0)
    history = json.loads(best.file("history.json").read_text())
    assert [point["row_length"] for point in history if "held_out" in point] == [64, 128, 128, 128]


def stop_in_step_3(plan: Plan[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run until a request to stop arrives in that step."""
    real = loop.train_step

    def step_with_request(context: Any, share: Any, *, step: int, signals: Any) -> Any:
        return real(context, share, step=step, signals=replace(signals, stop=step == 3))

    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", step_with_request)
        with pytest.raises(RunStopped):
            pretrain_in_process(plan)


def test_a_restore_fetches_each_file_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = tiny_pretrain_plan(store, "checkpoint.every_steps=4")
    stop_in_step_3(plan, monkeypatch)
    fetched, get = [], FileStore.get_file

    def noted(self: FileStore, key: str, local_path: Path) -> Path:
        if key.startswith("checkpoint/"):
            fetched.append(key.rpartition("/")[2])
        return get(self, key, local_path)

    monkeypatch.setattr(FileStore, "get_file", noted)
    pretrain_in_process(plan)
    assert sorted(fetched) == ["run.json", "state.pt"]


def test_a_worker_reads_its_own_part_of_a_state() -> None:
    paths = [f"state/zero_pp_rank_{n}_mp_rank_00_optim_states.pt" for n in range(12)]
    common = ["run.json", "state.pt", "state/latest", "state/mp_rank_00_model_states.pt"]
    assert [path for path in paths + common if reads(path, rank=1)] == [paths[1], *common]


def test_a_stop_adds_no_candidate_for_the_best(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a run that was stopped exports other weights than one that was not."""
    losses = iter([5.0, 1.0, 4.0, 6.0])
    measure(monkeypatch, losses)
    monkeypatch.setattr("clinical_modernbert.training.launch.delete_checkpoints", lambda *a: None)
    every = ("checkpoint.every_steps=6", "held_out_loss.every_steps=2", "training.export=best", "training.num_steps=8")
    plan = tiny_pretrain_plan(store, *every)
    stop_in_step_3(plan, monkeypatch)
    assert kept(store, plan) == [4]
    assert pretrain_in_process(plan).summary["held_out"] == figures(4.0)


def test_checkpoints_that_are_not_evaluated_cannot_be_compared(store: Store) -> None:
    every = ("checkpoint.every_steps=7", "held_out_loss.every_steps=10", "training.export=best")
    with pytest.raises(
        RecipeError, match=r"checkpoint\.every_steps=7 must be a multiple of held_out_loss\.every_steps=10"
    ):
        tiny_pretrain_plan(store, *every)


def test_the_steps_with_checkpoints_are_part_of_the_fingerprint_where_they_decide(store: Store) -> None:
    best = ("held_out_loss.every_steps=2", "training.export=best")
    plans = [tiny_pretrain_plan(store, *best, f"checkpoint.every_steps={n}") for n in (2, 4)]
    assert plans[0].fingerprint != plans[1].fingerprint
    plans = [tiny_pretrain_plan(store, f"checkpoint.every_steps={n}") for n in (2, 4)]
    assert plans[0].fingerprint == plans[1].fingerprint


def test_the_best_cannot_be_exported_where_it_is_not_kept(store: Store) -> None:
    with pytest.raises(RecipeError, match=r"held_out_loss\.every_steps"):
        tiny_pretrain_plan(store, "training.export=best")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_signal_keeps_the_state_and_the_same_command_continues_to_the_bit(
    store: Store, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, caplog: pytest.LogCaptureFixture
) -> None:
    whole = pretrain_in_process(tiny_pretrain_plan(store, "name=whole", "training.num_steps=30"))
    plan = tiny_pretrain_plan(store, "training.num_steps=30", "checkpoint.every_steps=null", "name=asked")
    monkeypatch.setattr("clinical_modernbert.training.stop_signal.POLL_S", 0.01)
    real, before = loop.train_step, signal.getsignal(number)

    def asked_at_step_5(*args: Any, step: int, **kwargs: Any) -> Any:
        if step == 5:
            os.kill(os.getpid(), number)
        time.sleep(0.02)
        return real(*args, step=step, **kwargs)

    monkeypatch.setattr(loop, "train_step", asked_at_step_5)
    with pytest.raises(RunStopped, match="the same command continues from there"):
        pretrain_in_process(plan)
    assert signal.getsignal(number) is before
    assert f"{number.name}: {plan.id} keeps its state after the current step" in caplog.text
    (step,) = kept(store, plan)
    assert 5 < step < 30 and find_artifact(store, "model", plan.id) is None
    assert Records(store, plan.id).result() == Stopped(step)
    resumed = pretrain_in_process(plan)
    assert_equal_to_the_bit(resumed, whole)
    assert [point["step"] for point in steps_of(resumed)] == list(range(30))


def test_what_no_retry_mends_is_tried_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = tiny_pretrain_plan(store)
    job, records = train_job(plan), Records(store, plan.id)
    tried = []

    class Context:
        def get_world_rank(self) -> int:
            return 0

        def get_world_size(self) -> int:
            return 1

    def fails(*args: Any, **kwargs: Any) -> None:
        tried.append(1)
        raise ModelError("step 3: no token was masked")

    monkeypatch.setattr(ray.train, "get_context", Context)
    monkeypatch.setattr(ray.train.torch, "get_device", lambda: torch.device("cpu"))
    monkeypatch.setattr(launch, "train_worker", fails)
    with pytest.raises(ModelError):
        ray_worker(asdict(job))
    ray_worker(asdict(job))  # the group that Ray starts in its place
    assert len(tried) == 1
    assert str(records.error(job.launch)) == "step 3: no token was masked"
    # Another launch is not held back, and a store that was away is no reason to give up.
    again = train_job(plan)
    monkeypatch.setattr(launch, "train_worker", lambda *a, **k: (_ for _ in ()).throw(StoreError("away")))
    with pytest.raises(StoreError):
        ray_worker(asdict(again))
    assert records.error(again.launch) is None
    # Nor is one that refuses: no group is started in place of one that ended well.
    refused = UploadRefusedError.of("the model", "4711")
    monkeypatch.setattr(launch, "train_worker", lambda *a, **k: (_ for _ in ()).throw(refused))
    assert ray_worker(asdict(again)) is refused
    monkeypatch.setattr(launch, "run_group", lambda worker, config, *a, **k: worker(config))
    monkeypatch.setattr(launch, "start_ray", lambda: None)
    with pytest.raises(UploadRefusedError, match="4711"):
        launch.pretrain(plan)


def test_nothing_is_left_in_the_temporary_folder(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    pretrain_in_process(tiny_pretrain_plan(store))
    assert list(folder.iterdir()) == []
